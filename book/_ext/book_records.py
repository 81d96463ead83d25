"""Collect the records of the executed pages, and show where a page's numbers come from: ``{provenance}``."""

import json
import subprocess
from functools import cache
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

METADATA = "calipers"  # as in calipers.records


def glued_records(path):
    """List the records (as dicts) among a page's glued values, in order.

    MyST-NB writes the values beside the executed notebook, whether it was executed or came from the cache. (The
    notebook itself it writes without outputs when it came from the cache.)
    """
    glued = json.loads(path.read_text("utf-8")).values()
    return [value["metadata"][METADATA] for value in glued if METADATA in value["metadata"]]


def records_by_id(env):
    """Every record of the book, by id, each with the name of its page."""
    pages = getattr(env, "calipers_records", {})
    return {record["id"]: {**record, "docname": name} for name in sorted(pages) for record in pages[name]}


def collect(app, doctree):
    name = app.env.docname
    path = Path(app.outdir).parent / "jupyter_execute" / f"{name}.glue.json"
    if not hasattr(app.env, "calipers_records"):
        app.env.calipers_records = {}
    app.env.calipers_records.pop(name, None)
    if NbMetadataCollector.get_doc_data(app.env)[name].get("glue"):
        found = glued_records(path)
        others = {id: page for page, records in app.env.calipers_records.items() for id in (r["id"] for r in records)}
        for record in found:
            if record["id"] in others:
                raise ValueError(f"{name}: record {record['id']!r} is also in {others[record['id']]}.")
        app.env.calipers_records[name] = found


def purge(app, env, docname):
    getattr(env, "calipers_records", {}).pop(docname, None)


class provenance(nodes.General, nodes.Element):
    """Stands for a page's provenance until every page has been executed."""


class Provenance(SphinxDirective):
    """One line: profile, seeds, device, backend, versions, date and seconds of this page's records."""

    def run(self):
        return [provenance()]


class FillProvenance(SphinxPostTransform):
    """Replace the placeholder by the words."""

    default_priority = 5

    def run(self):
        for node in self.document.findall(provenance):
            records = getattr(self.env, "calipers_records", {}).get(self.env.docname, [])
            text = provenance_text(records, commit(self.env.srcdir)) if records else "This page has no records."
            node.replace_self(nodes.paragraph("", text, classes=["provenance"]))


@cache
def commit(folder):
    """The commit from which the page is written, short; None outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance_text(records, commit):
    """Say in a sentence how a page's records came about, and from which commit (or None) the page is written."""
    last = records[-1]["provenance"]
    seeds = sorted({seed for record in records for seed in record["seeds"]})
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    return (
        f"How these numbers came about: profile {last['profile']}; seeds {', '.join(map(str, seeds)) or 'none'}; "
        f"{last['device']}; {versions}; {last['date']}; the last record came after {last['seconds']:.0f} seconds"
        f"{f'; page written at commit {commit}' if commit else ''}."
    )


def setup(app):
    app.add_node(provenance)
    app.add_directive("provenance", Provenance)
    app.add_post_transform(FillProvenance)
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", purge)
    return {"parallel_read_safe": False, "parallel_write_safe": True, "env_version": 1}
