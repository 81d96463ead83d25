"""Records: one line in a script, a bundle and glue in a notebook, a file for the tests, and strict throughout."""

import json
import math
import sys

import nbformat
import numpy as np
import pytest
from calipers import Record, Sample, record, records
from conftest import ROOT, run
from nbclient import NotebookClient

CODE = ROOT / "code"
SEEDS = (11, 12, 13)


@pytest.fixture(autouse=True)
def fresh_book(monkeypatch):
    """Every test starts with no record, in the quick profile."""
    monkeypatch.setattr(records, "_records", {})
    monkeypatch.setenv("CALIPERS_PROFILE", "quick")
    for variable in ("CALIPERS_RECORDS", "CALIPERS_BUILD", "CALIPERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)


def sample(*values, seeds=None):
    return Sample(np.array(values, dtype=float), tuple(SEEDS[: len(values)] if seeds is None else seeds))


# What a script prints


@pytest.mark.parametrize(("bound", "verdict"), [(98.9, "holds"), (99.5, "DOES NOT HOLD")])
def test_script_prints_one_line(capsys, bound, verdict):
    record("mnist-accuracy", sample(98.9, 99.0, 99.2), "%", title="Test accuracy, two convolutions", at_least=bound)
    assert capsys.readouterr().out == (
        f"[mnist-accuracy] Test accuracy, two convolutions: 99.03 ± 0.15 % | 3 seeds | at least {bound} %: {verdict}\n"
    )


@pytest.mark.parametrize(
    ("values", "unit", "text"),
    [
        (sample(98.9, 99.0, 99.2), "%", "99.03 ± 0.15 %"),
        (99.0, "%", "99.00 %"),
        (4_652_008, "", "4,652,008"),
        (sample(7, 7, 7), "epochs", "7 ± 0 epochs"),
        (sample(0.0123, 0.0125, 0.0130), "", "0.01260 ± 0.00036"),
        (sample(1310, 1200, 1400.5), "s", "1,304 ± 100 s"),
        (sample(0.1, 0.1, 0.1), "", "0.100 ± 0.000"),
        (0, "", "0"),
    ],
)
def test_number_is_written_with_the_digits_that_its_spread_warrants(values, unit, text):
    assert record("some-number", values, unit, title="A number").text == text


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"at_least": 98.9}, "at least 98.9"),
        ({"at_most": 0.25}, "at most 0.25"),
        ({"between": (1, 2.5)}, "between 1 and 2.5"),
        ({"equals": 218_058}, "equals 218,058"),
        ({"equals": 4_652_008}, "equals 4,652,008"),
        ({"between": (-3, 5 / 3)}, "between −3 and 1.66667"),
        ({"at_most": 1e-9}, "at most 1e−09"),
    ],
)
def test_bound_is_put_into_words(bound, words):
    assert f"| {words}:" in record("some-number", 2, title="A number", **bound).line


def test_all_bounds_are_named():
    line = record("some-number", 2, title="A number", at_least=1, at_most=3).line
    assert line.endswith("at least 1 and at most 3: holds")


# Bounds


@pytest.mark.parametrize(
    ("bound", "holds"),
    [
        ({"at_least": 2}, True),
        ({"at_least": 2.01}, False),
        ({"at_most": 2}, True),
        ({"at_most": 1.99}, False),
        ({"between": (2, 3)}, True),
        ({"between": (1, 2)}, True),
        ({"between": (2.01, 3)}, False),
        ({"between": (1, 1.99)}, False),
        ({"equals": 2}, True),
        ({"equals": 2.01}, False),
        ({"at_least": 1, "at_most": 1.5}, False),
        ({"at_least": 2.5, "at_most": 3}, False),
        ({}, None),
    ],
    ids=str,
)
def test_bound_is_on_the_mean(bound, holds):
    assert record("some-number", sample(1, 2, 3), title="A number", **bound).holds is holds


def test_greater_than_holds_where_the_paired_difference_clears_its_noise():
    record("dense", sample(90.0, 95.0, 99.0), "%", title="Dense")
    entry = record("conv", sample(90.5, 95.6, 99.4), "%", title="Convolutional", greater_than="dense")
    assert entry.holds is True
    assert entry.comparison == {
        "with": "dense",
        "difference": pytest.approx(0.5),
        "noise": pytest.approx(4.302653 * 0.1 / math.sqrt(3)),  # Student's quantile for two degrees of freedom
        "verdict": "higher",
    }
    assert entry.line.endswith("| +0.50 ± 0.25 against dense (higher) | greater than dense: holds")


@pytest.mark.parametrize(
    "values",
    [(93.0, 95.0, 103.0), (90.0, 95.0, 99.0), (89.5, 94.4, 98.6)],
    ids=["higher by less than the noise", "equal", "lower by more than the noise"],
)
def test_greater_than_does_not_hold_otherwise(values):
    record("dense", sample(90.0, 95.0, 99.0), "%", title="Dense")
    entry = record("conv", sample(*values), "%", title="Convolutional", greater_than="dense")
    assert entry.holds is False
    assert "DOES NOT HOLD" in entry.line


def test_compared_with_states_a_difference_without_a_bound():
    record("dense", sample(90.0, 95.0, 99.0), title="Dense")
    entry = record("conv", sample(89.5, 94.4, 98.6), title="Convolutional", compared_with="dense")
    assert entry.comparison["verdict"] == "lower"
    assert entry.bounds == []
    assert entry.holds is None
    assert entry.line.endswith("| −0.50 ± 0.25 against dense (lower)")


def test_all_bounds_have_to_hold():
    record("dense", sample(90.0, 95.0, 99.0), title="Dense")
    entry = record("conv", sample(90.5, 95.6, 99.4), title="Convolutional", greater_than="dense", at_least=99)
    assert entry.holds is False


def test_greater_than_needs_the_same_seeds():
    record("dense", sample(1, 2, 3), title="Dense")
    with pytest.raises(ValueError, match="run both sides with the same seeds"):
        record("conv", sample(2, 3, 4, seeds=(1, 2, 3)), title="Convolutional", greater_than="dense")


def test_smoke_profile_claims_nothing(monkeypatch):
    """One seed is enough there, and neither bound is judged, though both would fail or be undecided."""
    monkeypatch.setenv("CALIPERS_PROFILE", "smoke")
    record("dense", sample(90), "%", title="Dense")
    entry = record("conv", sample(95), "%", title="Convolutional", at_least=99, greater_than="dense")
    assert entry.holds is None
    assert entry.line.endswith(": not claimed in this profile")


# What is refused


@pytest.mark.parametrize(
    "id", ["", "Accuracy", "mnist accuracy", "mnist_accuracy", "-mnist", "mnist--a", "a.mean", "a\n"]
)
def test_malformed_id_is_refused(id):
    with pytest.raises(ValueError, match="lower-case words and digits joined by hyphens"):
        record(id, 1, title="A number")


def test_id_is_used_once():
    record("mnist-accuracy", 1, title="A number")
    with pytest.raises(ValueError, match="'mnist-accuracy' is used twice"):
        record("mnist-accuracy", 2, title="Another number")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_diverged_training_is_refused_and_its_seeds_named(bad):
    with pytest.raises(ValueError, match=r"for the seeds \[12\]") as caught:
        record("mnist-accuracy", sample(98, bad, 99), title="A number")
    assert "record how many seeds diverged" in str(caught.value)


def test_nan_without_seeds_is_refused():
    with pytest.raises(ValueError, match="not a finite number"):
        record("ratio", math.nan, title="A number")


@pytest.mark.parametrize(("profile", "enough"), [("smoke", 1), ("quick", 3), ("full", 5)])
def test_each_profile_asks_for_its_seeds(monkeypatch, profile, enough):
    monkeypatch.setenv("CALIPERS_PROFILE", profile)
    record("enough", sample(*range(enough), seeds=range(enough)), title="A number")
    if enough > 1:
        with pytest.raises(ValueError, match=rf"{enough - 1} seed\(s\), and the profile {profile} asks for {enough}"):
            record("too-few", sample(*range(enough - 1), seeds=range(enough - 1)), title="A number")


def test_refused_record_leaves_its_id_free():
    with pytest.raises(ValueError, match="not a finite number"):
        record("ratio", math.nan, title="A number")
    record("ratio", 1, title="A number")


@pytest.mark.parametrize("values", [Sample(np.ones((3, 2)), SEEDS), [1, 2, 3]], ids=["curves", "list without seeds"])
def test_one_number_for_every_seed(values):
    with pytest.raises(ValueError, match="give one number for every seed"):
        record("curve", values, title="A curve")


@pytest.mark.parametrize("relation", ["greater_than", "compared_with"])
def test_comparison_with_an_unknown_record_lists_the_known_ones(relation):
    record("dense", sample(1, 2, 3), title="Dense")
    with pytest.raises(ValueError, match=r"'densest', which is not recorded\. Recorded: dense"):
        record("conv", sample(2, 3, 4), title="Convolutional", **{relation: "densest"})


@pytest.mark.parametrize(("first", "second"), [(1, 2), (sample(1, 2, 3), 2), (1, sample(2, 3, 4))])
def test_only_samples_are_compared(first, second):
    """Between numbers without seeds there is no noise to clear: `at_least` says it."""
    record("dense", first, title="Dense")
    with pytest.raises(ValueError, match="seeds"):
        record("conv", second, title="Convolutional", greater_than="dense")


# The band of a repetition


def test_band_of_an_accuracy_joins_seeds_and_test_set():
    """By hand: mean 99, sd 0.1, binomial error sqrt(0.99 * 0.01 / 10,000) = 0.0995 points, 3 seeds.

    The degrees of freedom are 2 * ((0.01 + 0.0099) / 0.01)^2 = 7.92; tables give 2.306 for 8 and 2.365 for 7.
    """
    low, high = record("mnist-accuracy", sample(98.9, 99.0, 99.1), "%", title="Accuracy", examples=10_000).band
    error = math.sqrt(2 / 3 * (0.1**2 + 0.0099))
    assert (low + high) / 2 == pytest.approx(99)
    assert 2.306 < (high - low) / 2 / error < 2.365


def test_band_is_students_where_the_seeds_scatter_more_than_the_test_set():
    """Five points a seed drown the 0.3 points of 10,000 examples: nearly two degrees of freedom, quantile 4.30."""
    low, high = record("accuracy", sample(85, 90, 95), "%", title="Accuracy", examples=10_000).band
    assert (high - low) / 2 == pytest.approx(4.30 * math.sqrt(2 / 3 * (25 + 0.09)), rel=0.01)


@pytest.mark.parametrize("accuracy", [0, 100])
def test_band_of_a_perfect_accuracy_still_allows_for_an_example(accuracy):
    """One example of a hundred: sqrt(0.01 * 0.99 / 100) = 0.995 points; no spread, so the normal quantile."""
    low, high = record("perfect", sample(*3 * [accuracy]), "%", title="Accuracy", examples=100).band
    assert high - low == pytest.approx(2 * 1.959964 * math.sqrt(2 / 3) * 0.99499, rel=1e-4)


def test_band_without_a_test_set_is_students():
    """By hand: mean 2, sd 1, 3 seeds, Student's quantile 4.302653, and a repetition that is as noisy."""
    half = math.sqrt(2) * 4.302653 / math.sqrt(3)
    assert record("loss", sample(1, 2, 3), title="Loss").band == pytest.approx([2 - half, 2 + half])


def test_band_of_what_is_not_random_allows_for_rounding():
    assert record("parameters", 1000.0, title="Parameters").band == pytest.approx([999.999, 1000.001], rel=1e-12)
    low, high = record("slope", -2.0, title="Slope").band
    assert low < -2.0 < high


def test_single_seed_has_a_band_only_with_a_test_set(monkeypatch):
    monkeypatch.setenv("CALIPERS_PROFILE", "smoke")
    assert record("loss", sample(2), title="Loss").band is None
    half = 1.959964 * math.sqrt(2) * 5  # binomial: 100 * sqrt(0.5 * 0.5 / 100) = 5 points
    band = record("accuracy", sample(50), "%", title="Accuracy", examples=100).band
    assert band == pytest.approx([50 - half, 50 + half])


@pytest.mark.parametrize("unit", ["s", "times"])
def test_times_and_their_ratios_have_no_band(unit):
    assert record("speed", sample(10, 11, 12), unit, title="Speed").band is None


# The file of records


def test_file_of_records_round_trips(monkeypatch, tmp_path):
    path = tmp_path / "records.jsonl"
    monkeypatch.setenv("CALIPERS_RECORDS", str(path))
    entries = [
        record("dense", sample(90.0, 95.0, 99.0), "%", title="Dense — «plain»", between=(90, 99), examples=10_000),
        record("conv", sample(90.5, 95.6, 99.4), "%", title="Convolutional", greater_than="dense"),
        record("parameters", 218_058, title="Parameters", equals=218_058),
    ]
    lines = path.read_text("utf-8").splitlines()
    assert [Record(**json.loads(line)) for line in lines] == entries


def test_file_of_records_is_strict_json_in_smoke(monkeypatch, tmp_path):
    """A single seed has infinite noise, for which JSON has no word."""
    path = tmp_path / "records.jsonl"
    monkeypatch.setenv("CALIPERS_RECORDS", str(path))
    monkeypatch.setenv("CALIPERS_PROFILE", "smoke")
    record("dense", sample(90), title="Dense")
    record("conv", sample(95), title="Convolutional", greater_than="dense")

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    for line in path.read_text("utf-8").splitlines():
        json.loads(line, parse_constant=refuse)


def test_numpy_numbers_are_written_like_any_other(monkeypatch, tmp_path):
    path = tmp_path / "records.jsonl"
    monkeypatch.setenv("CALIPERS_RECORDS", str(path))
    values = Sample(np.array([1, 2, 3], dtype=np.float32), tuple(np.arange(3)))
    entry = record("numbers", values, title="Numbers", at_least=np.float32(1.5), at_most=np.int64(3))
    assert Record(**json.loads(path.read_text("utf-8"))) == entry


def test_provenance_says_where_a_number_comes_from(monkeypatch):
    import keras

    monkeypatch.setenv("CALIPERS_OFFLINE", "1")
    provenance = record("number", 1, title="A number").provenance
    backend = keras.backend.backend()
    assert set(provenance) == {"profile", "offline", "device", "backend", "versions", "date", "seconds"}
    assert (provenance["profile"], provenance["offline"], provenance["backend"]) == ("quick", True, backend)
    assert set(provenance["versions"]) == {"python", "keras", "numpy", "calipers", backend}
    assert provenance["versions"]["keras"] == keras.__version__
    assert provenance["versions"]["numpy"] == np.__version__
    assert provenance["versions"][backend][0].isdigit()
    assert provenance["seconds"] > 0


def test_provenance_names_no_backend_that_was_not_used():
    """Nor does it import one, which would take seconds."""
    code = "import calipers, sys; print(calipers.record('number', 1, title='').provenance, 'keras' in sys.modules)"
    said = run([sys.executable, "-c", code], PYTHONPATH=str(CODE)).stdout
    assert "'backend': 'numpy'" in said
    assert "tensorflow" not in said
    assert said.rstrip().endswith("False")


# In a notebook

CELLS = {
    "imports": "import os\nimport numpy as np\nfrom calipers import Sample, record\nseeds = (0, 1, 2)",
    "dense": 'record("dense", Sample(np.array([90.0, 95.0, 99.0]), seeds), "%", title="Dense <784>");',
    "conv": 'record("conv", Sample(np.array([90.5, 95.6, 99.4]), seeds), "%", title="Conv", greater_than="dense");',
    "again": 'record("dense", Sample(np.array([91.0, 96.0, 98.0]), seeds), "%", title="Dense, again");',
    "in the build": 'os.environ["CALIPERS_BUILD"] = "1"\nrecord("dense", 1, title="Dense, twice");',
    "smoke": 'os.environ["CALIPERS_PROFILE"] = "smoke"\n'
    'record("one-dense", Sample(np.array([90.0]), (0,)), title="Dense, one seed")\n'
    'record("one-conv", Sample(np.array([95.0]), (0,)), title="Conv, one seed", greater_than="one-dense");',
}


@pytest.fixture(scope="module")
def executed():
    """The cells' outputs after a run in a real kernel, as on a reader's Jupyter."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    cells[list(CELLS).index("in the build")].metadata["tags"] = ["raises-exception"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(CODE))
        patch.setenv("CALIPERS_PROFILE", "quick")
        for variable in ("CALIPERS_BUILD", "CALIPERS_RECORDS"):
            patch.delenv(variable, raising=False)
        NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    nbformat.validate(notebook)
    return dict(zip(CELLS, notebook.cells, strict=True))


def shown(cell):
    """The record that an executed cell holds last, and the forms in which it shows it."""
    *_, last = (place for place, output in enumerate(cell.outputs) if records.METADATA in output.get("metadata", {}))
    return Record(**cell.outputs[last]["metadata"][records.METADATA]), cell.outputs[last - 1]["data"]


def glued(cell):
    """The values that MyST-NB finds in the cell, as the role glue:text shows them without a format."""
    from myst_nb.core.variables import format_plain_text
    from myst_nb.ext.glue import extract_glue_data_cell

    found = extract_glue_data_cell(nbformat.from_dict(cell))
    return {key: format_plain_text(output["data"]["text/plain"], "") for key, output in found}


def test_notebook_holds_the_record_and_a_readable_line(executed):
    entry, data = shown(executed["conv"])
    assert (entry.id, entry.values, entry.holds) == ("conv", [90.5, 95.6, 99.4], True)
    assert data["text/plain"] == entry.line
    assert "Conv: 95.17 ± 4.47 %" in entry.line


def test_notebook_shows_the_title_and_not_markup_made_of_it(executed):
    _, data = shown(executed["dense"])
    assert "Dense &lt;784&gt;" in data["text/html"]
    assert 'id="record-dense"' in data["text/html"]


def test_myst_nb_finds_the_values_that_prose_quotes(executed):
    values = glued(executed["conv"])
    assert values.pop("conv") == "95.17 ± 4.47 %"
    assert values.pop("conv.verdict") == "higher"
    assert {key: float(value) for key, value in values.items()} == pytest.approx(
        {
            "conv.mean": np.mean([90.5, 95.6, 99.4]),
            "conv.sd": np.std([90.5, 95.6, 99.4], ddof=1),
            "conv.min": 90.5,
            "conv.max": 99.4,
            "conv.difference": 0.5,
            "conv.noise": 4.302653 * 0.1 / math.sqrt(3),
        }
    )


def test_page_of_one_seed_finds_every_value_that_it_quotes(executed):
    """The offline edition runs the same prose in the smoke profile: no key may be missing."""
    many = {key.removeprefix("conv") for key in glued(executed["conv"])}
    one = {key.removeprefix("one-conv") for key in glued(executed["smoke"]) if key.startswith("one-conv")}
    assert one == many


def test_single_seed_reaches_the_notebook_without_an_infinity(executed):
    """JSON has none: it would reach the page as a word, which no formatting takes."""
    entry, _ = shown(executed["smoke"])
    assert entry.comparison["noise"] is None
    assert entry.line.endswith(": not claimed in this profile")


def test_cell_run_again_by_hand_replaces_its_record(executed):
    entry, _ = shown(executed["again"])
    assert (entry.title, entry.mean) == ("Dense, again", 95.0)


def test_build_refuses_an_id_used_twice(executed):
    (error,) = (output for output in executed["in the build"].outputs if output.output_type == "error")
    assert error.ename == "ValueError"
    assert "'dense' is used twice" in error.evalue
