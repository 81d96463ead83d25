"""Mend what Sphinx makes of a page, where nothing before it can."""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


def mend(app, pagename, templatename, context, doctree):
    """Give works the role that members of a list have, for a deprecated one; give negative glued numbers their sign."""
    if "body" in context:
        body = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
        context["body"] = re.sub(r'(<span class="pasted-text">)-(?=\d)', r"\1−", body)


class KeepTogether(SphinxPostTransform):
    """Keep a number on one line with its percent sign and its spread; in a narrow table the spread may part."""

    default_priority = 900  # after the numbers have been filled in
    formats = ("html",)

    def run(self):
        for paragraph in self.document.findall(nodes.paragraph):
            spaces = " (?=%)" if isinstance(paragraph.parent, nodes.entry) else " (?=[±%])|(?<=±) "
            for text in list(paragraph.findall(nodes.Text)):
                if not isinstance(text.parent, nodes.literal | nodes.math):
                    text.parent.replace(text, nodes.Text(re.sub(spaces, "\u00a0", text)))


def setup(app):
    app.add_post_transform(KeepTogether)
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
