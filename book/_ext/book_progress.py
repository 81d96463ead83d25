"""Say which page is being read and executed, what its execution took when last measured, and how many are left."""

import json
import os
from pathlib import Path

from sphinx.util import logging

logger = logging.getLogger(__name__)


def plan(app, env, docnames):
    chapters = [name for name in docnames if "format_name: myst" in Path(env.doc2path(name)).read_text("utf-8")]
    app.chapters_left = chapters
    if chapters:
        profile = os.environ["CALIPERS_PROFILE"]
        logger.info("Profile %s: %d page(s) with code to execute or to take from the cache.", profile, len(chapters))


def announce(app, docname, source):
    if docname not in app.chapters_left:
        return
    app.chapters_left.remove(docname)
    results = Path(app.srcdir, "book/results", os.environ["CALIPERS_PROFILE"], f"{Path(docname).name}.json")
    seconds = json.loads(results.read_text("utf-8"))["seconds"] if results.exists() else None
    expected = f"about {seconds:.0f} s when executed" if seconds else "not timed yet"
    logger.info("\n%s (%s); %d page(s) left after it", docname, expected, len(app.chapters_left))


def setup(app):
    app.connect("env-before-read-docs", plan)
    app.connect("source-read", announce)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
