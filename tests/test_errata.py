"""The errata page: an entry for every slip, and no bound that holds when slip and correction change places."""

import json
import re

import pytest
import yaml
from chapters import CHAPTERS, records_of, source
from conftest import ROOT

PAGE = (ROOT / "book/errata.md").read_text("utf-8")
SLIPS = {slip["id"]: slip for slip in yaml.safe_load((ROOT / "book/claims.yml").read_text("utf-8"))["slips"]}
ENTRIES = dict(re.findall(r"^\(err-([\w-]+)\)=\n(.*?)(?=^\(err-|^## |^---|\Z)", PAGE, re.M | re.S))
SLIP = pytest.mark.parametrize("slip", SLIPS)


def test_every_slip_has_exactly_one_entry_in_the_order_of_the_chapters():
    labels = re.findall(r"^\(err-([\w-]+)\)=$", PAGE, re.M)
    assert sorted(labels) == sorted(SLIPS)
    listed = re.findall(r"file: book/(\w+)", (ROOT / "_toc.yml").read_text("utf-8"))
    places = [SLIPS[label]["chapter"] for label in labels]
    there = [listed.index(chapter) for chapter in places if chapter in CHAPTERS]
    assert there == sorted(there)
    assert [chapter in CHAPTERS for chapter in places] == sorted((c in CHAPTERS for c in places), reverse=True)


@SLIP
def test_an_entry_quotes_its_lecture_and_leads_to_its_chapter(slip):
    entry, chapter = ENTRIES[slip], SLIPS[slip]["chapter"]
    assert re.search(rf"\*\*As transcribed\*\* {{cite}}`{SLIPS[slip]['source']}`", entry)
    assert entry.index("**It fails") < entry.index("**It holds") < entry.index("**In the book:**")
    if chapter in CHAPTERS:
        labels = re.findall(r"^\(([\w-]+)\)=$", (ROOT / f"book/{chapter}.md").read_text("utf-8"), re.M)
        assert set(re.findall(r"\{ref\}`[^`<]*<([\w-]+)>`", entry)) & set(labels)
    else:
        assert "in preparation" in entry


@SLIP
def test_an_entry_has_a_cell_that_fails_and_a_cell_that_holds(slip):
    reported = json.loads((ROOT / "book/results/quick/errata.json").read_text("utf-8"))["records"]
    bounds = {record["id"]: record["bounds"] for record in reported}
    cells = re.findall(r"^```\{code-cell\}.*?^```$", ENTRIES[slip], re.M | re.S)
    for word in ("fails", "holds"):
        key = f"err-{slip}-{word}"
        assert bounds[key]
        assert sum(f'"{key}"' in cell for cell in cells) == 1
        assert f"{{glue:text}}`{key}" in ENTRIES[slip]


def test_the_page_ends_with_its_provenance():
    assert PAGE.rstrip().endswith("```{provenance}\n```")


FAILING = {  # in the cell that fails: the slip, and what would mend it
    "softmax-sign": ("softmax(scores, -1)", "softmax(scores, 1)"),
    "cross-entropy-base": ("costs(np.log10, -np.inf) -", "costs(np.log, 0) -"),
    "sigma-inverse": ("spread_of_z(784**0.5)", "spread_of_z(1 / 784**0.5)"),
    "glorot-is-lecun": ("fan_out: fan_in)", "fan_out: (fan_in + fan_out) / 2)"),
    "minimise-gradient": ("end(of_the_squared_gradient)", "end(of_the_loss)"),
    "epsilon-place": ("adam_moves(inside)", "adam_moves(outside)"),
    "keras-old-arguments": (
        "missed(lr=0.1, decay=1e-3)",
        "missed(learning_rate=keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 1e-3))",
    ),
    "l1-signed": ("grown(lambda w: w / 2)", "grown(lambda w: abs(w))"),
    "l2-unsquared": ("lambda w: np.sqrt(np.sum(w**2)) / 2", "lambda w: np.sum(w**2) / 2"),
    "weight-decay-adam": ("Adam(0.01), penalty=0.5", "AdamW(0.01, weight_decay=0.5), penalty=0"),
    "dropout-halving": ("lost_by_halving(each=True)", "lost_by_halving(each=False)"),
    "test-as-validation": ('reported("test")', 'reported("validation")'),
    "cost-has-no-meaning": ("preferred(wrong_share)", "preferred(log_cost)"),
    "expanded-350000": ("extra_copies(350_000)", "extra_copies(250_000)"),
    "convolution-integral": ("coefficients(as_printed)", "coefficients(convolution)"),
    "receptive-20-12-12": ("second_layer(12)", "second_layer(5)"),
    "kernel-index": ("asked(last=5)", "asked(last=4)"),
    "forty-times": ("off_by(40, 23_520 / 500)", "off_by(45, 23_520 / 500)"),
    "numpy-rand": ("np.random.rand(0.001, 1)", "np.random.uniform(0.001, 1)"),
    "hyperas-dead": ('there("model_from_yaml")', 'there("model_from_json")'),
    "mse-mean": ("twice_over_once(np.sum)", "twice_over_once(np.mean)"),
}
HOLDING = {  # in the cell that holds: the correction, and the slip (Hyperas cannot run: a search that stays in place)
    **{slip: (right, wrong) for slip, (wrong, right) in FAILING.items()},
    "cross-entropy-base": ("= abs(costs(np.log, 0)", "= abs(costs(np.log10, -np.inf)"),
    "keras-old-arguments": ("missed(learning_rate=falling)", "missed(lr=0.1, decay=1e-3)"),
    "expanded-350000": ("(0, -1)]", "(0, -1), (1, 1), (-1, -1)]"),
    "forty-times": ("off_by(45, ", "off_by(40, "),
    "numpy-rand": ("delivers(plain) +", "delivers(lambda: np.random.rand(0.001, 1)) +"),
    "hyperas-dead": ("rng.uniform(-4, -0.7, 20)", "rng.uniform(-4, -4, 20)"),
}


@pytest.mark.parametrize(("word", "swaps"), [("fails", FAILING), ("holds", HOLDING)])
def test_no_bound_survives_that_slip_and_correction_change_places(word, swaps, tmp_path):
    """All are swapped in one run, since no entry uses another's code; the cells on the other side are left alone."""
    assert set(swaps) == set(SLIPS)
    for slip, (old, _) in swaps.items():
        assert source("errata").count(old) == 1, f"{slip}: {old}"
    records = records_of("errata", tmp_path, replace=dict(swaps.values()), profile="quick")
    places = [(slip, key) for slip in SLIPS for key in ("fails", "holds")]
    verdicts = {(slip, key): records[f"err-{slip}-{key}"]["holds"] for slip, key in places}
    assert verdicts == {(slip, key): key != word for slip, key in verdicts}
