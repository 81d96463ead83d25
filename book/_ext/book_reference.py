"""The role ``{reference}``: a number of the reference run (the full profile), from the results that lie in the book.

``{reference}`id``` gives the text of a record, ``{reference}`id.mean:.2f``` its mean, formatted. The parts
``id.difference:+.2f``, ``id.noise:.2f`` and ``id.verdict`` say how it compares with another. Where a page has no
reference run yet, the role says so; a record that the run does not have is an error.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxRole

NOT_RUN = "(not run yet)"


def quote(root, page, text):
    """What a page quotes from its reference run.

    Parameters
    ----------
    root : path
        Of the project.
    page : str
    text : str
        A record's id, or ``id.mean:format``, or the same with ``difference``, ``noise`` or ``verdict``.

    Raises
    ------
    ValueError
        If there is a reference run and it has no such record, or nothing that the record was compared with.
    """
    from calipers.records import Record

    path = Path(root, f"book/results/full/{page}.json")
    if not path.exists():
        return NOT_RUN
    content = json.loads(path.read_text("utf-8"))
    records = {record["id"]: record for record in content["records"]}
    key, _, spec = text.partition(":")
    id, _, part = key.partition(".")
    record = records.get(id, {})
    values = {"": record.get("id"), "mean": record.get("mean"), **(record.get("comparison") or {})}
    if values.get(part) is None:
        raise ValueError(f"The reference run of {page} has no {key!r}: see {path}.")
    if part:
        return format(values[part], spec).replace("-", "−")
    return Record(**{"provenance": content["provenance"], **record}).text


class Reference(SphinxRole):
    def run(self):
        results = Path(self.env.srcdir, "book/results/full")
        page = Path(self.env.docname).name
        for path in (results, results / f"{page}.json"):  # the folder's date changes when a run comes home
            if path.exists():
                self.env.note_dependency(str(path))
        try:
            return [nodes.Text(quote(self.env.srcdir, page, self.text))], []
        except ValueError as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]


def setup(app):
    app.add_role("reference", Reference())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
