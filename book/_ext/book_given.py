"""The role ``{given}``: a typed number that is no measurement of ours, but set, supposed or worked out.

A reader sees the text alone. The check of the prose (``tests/test_prose.py``) passes over it.
"""

from docutils import nodes


def given(name, rawtext, text, lineno, inliner, options=None, content=None):
    return [nodes.Text(text)], []


def setup(app):
    app.add_role("given", given)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
