"""The ledger: ``{claims}``, ``{slips}``, ``{claims-summary}``, ``{claims-picture}`` and ``{status}``.

Everything is drawn from ``book/claims.yml`` and from the records of this build's executed pages, after all pages have
been read, so that no number on these pages is typed.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path

import yaml
from book_records import records_by_id
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

ANSWERED = ("reproduced", "differs", "corrected")
VERDICTS = (
    *ANSWERED,
    "not confirmed in this build",
    "not claimed in smoke",
    "not testable here",
    "not measured yet",
)


def load_ledger(srcdir):
    """Read ``book/claims.yml``: its sources, claims and slips."""
    return yaml.safe_load(Path(srcdir, "book/claims.yml").read_text("utf-8"))


def reference_runs(srcdir):
    """Name the chapters that have results in the full profile."""
    return sorted(path.stem for path in Path(srcdir, "book/results/full").glob("*.json"))


def reference_records(srcdir, records):
    """Map the ids of the full profile's records to them: those of this build, if it is one, else the committed ones."""
    found = {}
    for chapter in reference_runs(srcdir):
        content = json.loads(Path(srcdir, f"book/results/full/{chapter}.json").read_text("utf-8"))
        shared = {"docname": f"book/{chapter}", "provenance": content["provenance"]}
        found |= {record["id"]: {**shared, **record} for record in content["records"]}
    return found | {key: record for key, record in records.items() if record["provenance"]["profile"] == "full"}


def judge(entry, records, reference):
    """Return the verdict on a claim or a slip, and the record that answers it (or None).

    An entry's ``answer`` names a record and the verdict that follows when the record's bound holds. With ``profile:
    full`` the record is one that quick cannot make, and the reference run's answers.
    """
    if "untestable" in entry:
        return "not testable here", None
    answer = entry.get("answer", {})
    record = (reference if "profile" in answer else records).get(answer.get("record"))
    if record is None:
        return "not measured yet", None
    if record["holds"] is None:
        return "not claimed in smoke", record
    return (answer["verdict"] if record["holds"] else "not confirmed in this build"), record


def record_text(record):
    """Write a record's value as the page that measured it does."""
    from calipers.records import Record

    fields = {key: value for key, value in record.items() if key != "docname"}
    return Record(**fields).text


class placeholder(nodes.General, nodes.Element):
    """Stands for a part of the ledger until every page has been executed."""


class Part(SphinxDirective):
    """A part of the ledger, named like the directive."""

    def run(self):
        self.env.note_dependency(str(Path(self.env.srcdir, "book/claims.yml")))
        self.env.ledger_pages = getattr(self.env, "ledger_pages", set()) | {self.env.docname}
        return [placeholder(part=self.name)]


class FillLedger(SphinxPostTransform):
    """Replace the placeholders."""

    default_priority = 5

    def run(self):
        for node in list(self.document.findall(placeholder)):
            ledger, records = load_ledger(self.env.srcdir), records_by_id(self.env)
            reference = reference_records(self.env.srcdir, records)
            node.replace_self(getattr(self, node["part"].replace("-", "_"))(ledger, records, reference))

    def claims(self, ledger, *known):
        head = ("The lecture says", "Its figure", "This build", "Reference run", "Verdict")
        parts = []
        for chapter in dict.fromkeys(claim["chapter"] for claim in ledger["claims"]):
            claims = [claim for claim in ledger["claims"] if claim["chapter"] == chapter]
            rows = [self.row(claim, figure_text(claim), ledger, *known) for claim in claims]
            parts.append(nodes.rubric("", chapter.replace("_", " ").capitalize()))
            parts.append(table(head, rows, (32, 12, 22, 18, 16), "claims"))
        return parts

    def slips(self, ledger, *known):
        head = ("As transcribed", "What holds", "This build", "Reference run", "Verdict")
        rows = [self.row(slip, slip["truth"], ledger, *known) for slip in ledger["slips"]]
        return [table(head, rows, (24, 24, 22, 16, 14), "slips")]

    def row(self, entry, second, ledger, records, reference):
        verdict, _ = judge(entry, records, reference)
        source = nodes.emphasis("", f"({ledger['sources'][entry['source']]['short']})")
        runs = [self.measured(entry, known, profile) for known, profile in ((records, "quick"), (reference, "full"))]
        cells = [[nodes.Text(entry["says"] + " "), source], second, *runs, verdict]
        return cells, f"chapter-{entry['chapter']}"

    def measured(self, entry, known, profile):
        """The value that answers, in one of the two runs, with a link to its cell and how it came about."""
        answer = entry.get("answer")
        if not answer:
            return entry.get("untestable", "–") if profile == "quick" else "–"
        if profile == "quick" and "profile" in answer:
            return "in the full profile only"
        record = known.get(answer["record"])
        if record is None:
            return "not run yet" if profile == "full" else "–"
        uri = self.app.builder.get_relative_uri(self.env.docname, record["docname"])
        if record["id"] in records_by_id(self.env):  # a cell that only the full profile runs is not on the page
            uri += f"#record-{record['id']}"
        how = nodes.inline("", f" {how_text(record)}", classes=["how"])
        return [nodes.reference("", record_text(record), refuri=uri, internal=True), how]

    def status(self, ledger, records, reference):
        head = ("Page", "Executed in", "Records", "Bounds", "Claims and slips answered here", "Made")
        rows = []
        for name in sorted(getattr(self.env, "calipers_records", {}), key=self.place_in_contents):
            found = self.env.calipers_records[name]
            entries = [entry for entry in ledger["claims"] + ledger["slips"] if answers(entry, found)]
            verdicts = Counter(judge(entry, records, reference)[0] for entry in entries)
            last = found[-1]["provenance"]
            uri = self.app.builder.get_relative_uri(self.env.docname, name)
            title = nodes.reference("", self.env.titles[name].astext(), refuri=uri, internal=True)
            broken = sum(record["holds"] is False for record in found)
            bounds = f"{sum(bool(record['bounds']) for record in found)}{f', {broken} do not hold' if broken else ''}"
            made = f"{last['profile']}; {last['device']}; {last['date']}"
            rows.append(
                ([[title], f"{last['seconds']:.0f} s", str(len(found)), bounds, counted(verdicts) or "–", made], "")
            )
        if not rows:
            return [nodes.paragraph("", "Nothing was executed in this build.")]
        total = sum(records[-1]["provenance"]["seconds"] for records in self.env.calipers_records.values())
        text = f"{len(rows)} pages were executed, in {total / 60:.0f} minutes together."
        return [nodes.paragraph("", text), table(head, rows, (22, 11, 9, 11, 25, 22), "status")]

    def place_in_contents(self, name):
        """Where a page stands in the table of contents; the root names them all, in order."""
        listed = [entry for pages in self.env.toctree_includes.values() for entry in pages]
        return listed.index(name) if name in listed else len(listed)

    def claims_summary(self, ledger, *known):
        counts = Counter(judge(entry, *known)[0] for entry in ledger["claims"] + ledger["slips"])
        total = f"{len(ledger['claims'])} claims and {len(ledger['slips'])} slips"
        named = {entry["chapter"] for entry in ledger["claims"] + ledger["slips"]}  # so the errata are no chapter
        chapters = sum(Path(page).name in named for page in getattr(self.env, "calipers_records", {}))
        text = (
            f"Of {total} in the ledger, this build finds {counted(counts)}. The reference run, in the profile full, "
            f"has been made for {len(named & set(reference_runs(self.env.srcdir)))} of {chapters} chapter(s)."
        )
        return [nodes.paragraph("", text)]

    def claims_picture(self, ledger, *known):
        answered = [(claim, judge(claim, *known)[1]) for claim in ledger["claims"] if claim.get("unit") == "%"]
        answered = [(claim, record) for claim, record in answered if record and record["unit"] == "%"]
        if not answered:
            return [nodes.paragraph("", "Nothing was measured in this build.")]
        return [nodes.raw("", draw(answered), format="html")]


def counted(verdicts):
    """Say how many there are of each verdict."""
    return ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])


def answers(entry, records):
    """Whether one of these records answers a claim or a slip."""
    return entry.get("answer", {}).get("record") in {record["id"] for record in records}


def how_text(record):
    """Seeds, profile, device, seconds and date of a record."""
    provenance, seeds = record["provenance"], len(record["seeds"])
    number = f"{seeds} seed{'s' * (seeds > 1)}" if seeds else "nothing random"
    return (
        f"{number}; {provenance['profile']}; {provenance['device']}; after {provenance['seconds']:.0f} s; "
        f"{provenance['date']}"
    )


def figure_text(claim):
    """The lecture's own figure, or a dash where it gives none."""
    value = claim.get("value")
    if value is None:
        return "–"
    values = value if isinstance(value, list) else [value]
    return f"{', '.join(f'{v:,g}' if 'unit' not in claim else f'{v:.2f}' for v in values)} {claim.get('unit', '')}"


def table(head, rows, widths, name):
    """Build a docutils table of the class `name` from rows of texts and lists of inline nodes, each with its class."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(head))
    group += nodes.thead("", table_row(head))
    group += nodes.tbody("", *(table_row(cells, name) for cells, name in rows))
    return nodes.table("", group, classes=["ledger", name])


def table_row(cells, name=""):
    entries = []
    for cell in cells:
        children = [nodes.Text(cell)] if isinstance(cell, str) else cell
        entries.append(nodes.entry("", nodes.paragraph("", "", *children)))
    return nodes.row("", *entries, classes=[name] if name else [])


def draw(answered):
    """Draw the lectures' accuracies beside ours, with the spread over seeds, as inline SVG.

    The axis is the error's logarithm: by accuracy all rungs of MNIST would lie on one spot.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from calipers import figures

    figures.style()
    figure, axes = plt.subplots(figsize=(4.8, 1.2 + 0.5 * len(answered)))
    for place, (claim, record) in enumerate(reversed(answered)):
        axes.plot(100 - claim["value"], place, "o", mfc="none", mew=2, ms=9, color=figures.COLOURS["vermilion"],
                  label="lecture" if not place else None)  # fmt: skip
        axes.errorbar(100 - record["mean"], place, xerr=record["sd"] or 0, fmt="D", ms=5, capsize=4,
                      color=figures.COLOURS["blue"], label="measured, ± spread" if not place else None)  # fmt: skip
    axes.set_yticks(range(len(answered)), [claim.get("short", claim["id"]) for claim, _ in reversed(answered)])
    axes.set(xlabel="test error (%), logarithmic", xscale="log", ylim=(-0.6, len(answered) - 0.4))
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.minorticks_off()
    figure.legend(loc="outside upper center", ncols=2)
    alt = "Lecture's accuracy against ours: " + "; ".join(
        f"{claim.get('short', claim['id'])} {claim['value']:.2f} against {record_text(record)}"
        for claim, record in answered
    )
    svg = figures.inline_svg(figure, alt)
    plt.close(figure)
    return svg


def refresh(app, env):
    """Write the ledger's pages again when a record has changed, even if their own text has not."""
    records = records_by_id(env)
    content = repr((sorted(records.items()), sorted(reference_records(env.srcdir, records).items())))
    state = hashlib.sha256(content.encode()).hexdigest()
    if state == getattr(env, "ledger_state", None):
        return []
    env.ledger_state = state
    return sorted(getattr(env, "ledger_pages", set()) & env.found_docs)


def add_filters(app, pagename, templatename, context, doctree):
    """The script that lets a reader filter the rows; without it all of them show."""
    if "ledger claims" in context.get("body", ""):
        app.add_js_file("ledger.js", loading_method="defer")


def setup(app):
    app.setup_extension("book_records")
    app.add_node(placeholder)
    for name in ("claims", "slips", "claims-summary", "claims-picture", "status"):
        app.add_directive(name, Part)
    app.add_post_transform(FillLedger)
    app.connect("env-updated", refresh)
    app.connect("html-page-context", add_filters)
    return {"parallel_read_safe": False, "parallel_write_safe": True, "env_version": 1}
