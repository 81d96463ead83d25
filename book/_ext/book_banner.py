"""Warn on every page of the offline edition and of a smoke build that the numbers mean nothing."""

import os

OFFLINE = (
    "Offline edition: no data set was within reach, so this book ran on stand-in data in the smoke profile. "
    "<strong>Its numbers mean nothing.</strong>"
)
SMOKE = "Built in the smoke profile, which only shows that the code runs. <strong>Its numbers mean nothing.</strong>"


def set_banner(app, config):
    text = ""
    if os.environ.get("CALIPERS_OFFLINE") == "1":
        text = OFFLINE
    elif os.environ.get("CALIPERS_PROFILE") == "smoke":
        text = SMOKE
    if text:
        config.html_theme_options = {**config.html_theme_options, "announcement": text}


def setup(app):
    app.connect("config-inited", set_banner, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
