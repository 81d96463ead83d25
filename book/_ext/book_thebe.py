"""Leave out sphinx-thebe's scripts. Jupyter Book loads them unasked and declares one constant twice, an error."""


def drop_scripts(app, pagename, templatename, context, doctree):
    def is_thebe(script):
        return "thebe" in f"{getattr(script, 'filename', '')}{getattr(script, 'attributes', '')}".lower()

    context["script_files"] = [script for script in context["script_files"] if not is_thebe(script)]


def setup(app):
    app.connect("html-page-context", drop_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
