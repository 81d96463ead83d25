"""Run parts of a chapter's script: its definitions alone, or its cells up to a place, whole or broken."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(path.stem for path in (ROOT / "code").glob("*.py"))
CHAPTERS = [name for name in NAMES if name != "errata"]  # the errata run code too, but are a page of the ledger


def source(name):
    """The chapter's script."""
    return (ROOT / "code" / f"{name}.py").read_text("utf-8")


def definitions(name):
    """Execute only the imports, functions and classes of a chapter, and return them by name."""
    keep = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    module = ast.parse(source(name))
    module.body = [node for node in module.body if isinstance(node, keep)]
    namespace = {"__name__": name}
    exec(compile(module, f"{name}.py", "exec"), namespace)
    return namespace


def records_of(name, folder, upto=None, replace=None, profile="smoke"):
    """Run a chapter's code cells, up to the one that records `upto`, with pieces of text replaced.

    Parameters
    ----------
    name : str
    folder : Path
        Where the broken script and its records are written.
    upto : str, optional
        Id of the last record that is needed.
    replace : dict, optional
        Old text to new text; each old text has to occur, so that a break cannot miss.
    profile : str

    Returns
    -------
    dict
        The records (dicts) by id.
    """
    cells = re.split(r"^# %%.*\n", source(name), flags=re.M)
    if upto:
        last = next(number for number, cell in enumerate(cells) if f'"{upto}"' in cell and "calipers.record" in cell)
        cells = cells[: last + 1]
    text = "\n".join(cells)
    for old, new in (replace or {}).items():
        assert old in text, f"{name} has no {old!r} to break"
        text = text.replace(old, new)
    script, out = folder / f"{name}.py", folder / "records.jsonl"
    script.write_text(text, "utf-8")
    out.unlink(missing_ok=True)
    environment = {**os.environ, "CALIPERS_PROFILE": profile, "CALIPERS_RECORDS": str(out), "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {record["id"]: record for record in map(json.loads, out.read_text("utf-8").splitlines())}
