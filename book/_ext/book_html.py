"""Mend the HTML that Sphinx writes, where nothing before it can."""

import re


def mend(app, pagename, templatename, context, doctree):
    """Give works the role that members of a list have, for a deprecated one; give negative glued numbers their sign."""
    if "body" in context:
        body = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
        context["body"] = re.sub(r'(<span class="pasted-text">)-(?=\d)', r"\1−", body)


def setup(app):
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
