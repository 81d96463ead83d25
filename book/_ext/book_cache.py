"""Execute every page again when `calipers`, a pin, the profile or the backend changes.

jupyter-cache keys on the cells and the kernel's name alone. The cache's folder is therefore named after a hash of
what the cells depend on besides; the setting is an `env` value, so Sphinx reads every page again when it changes.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

VARIABLES = ("CALIPERS_PROFILE", "CALIPERS_OFFLINE", "KERAS_BACKEND")


def resolve_profile():
    """Ask calipers, in a process of its own, because it may have to import a backend to see a GPU."""
    command = [sys.executable, "-c", "import calipers; print(calipers.profile())"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(answer.stderr.strip().splitlines()[-1])
    return answer.stdout.split()[-1]


def set_cache(app, config):
    os.environ["CALIPERS_PROFILE"] = resolve_profile()
    digest = hashlib.sha256(sys.version.encode())
    for name in VARIABLES:
        digest.update(f"{name}={os.environ.get(name, '')}\0".encode())
    root = Path(app.srcdir)
    for pattern in config.book_cache_depends:
        for path in sorted(root.glob(pattern)):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    folder = Path(app.outdir).parent / ".jupyter_cache" / digest.hexdigest()[:12]
    folder.parent.mkdir(parents=True, exist_ok=True)
    config.nb_execution_cache_path = str(folder)


def setup(app):
    os.environ["CALIPERS_BUILD"] = "1"  # inherited by the kernels
    app.add_config_value("book_cache_depends", [], "")
    app.connect("config-inited", set_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
