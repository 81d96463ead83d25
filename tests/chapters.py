"""Run parts of a chapter's script: its definitions alone, one cell, or its cells up to a place, whole or broken."""

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace

import calipers
import keras
import matplotlib.pyplot as plt
import pytest

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


def cells_of(name):
    """The script's cells, in order."""
    return re.split(r"^# %%.*\n", source(name), flags=re.M)


def measured_by_cell(name, id, given, replace=None, records=True):
    """Run the one cell of a chapter that records `id`, with pieces of text replaced, and return what it measures.

    Parameters
    ----------
    name : str
    id : str
        As the cell spells it: ``f"reg-stop-{word}-gap"`` there is ``reg-stop-{word}-gap`` here.
    given : dict
        The namespace: the chapter's definitions, and what the cell takes from the cells above it.
    replace : dict, optional
    records : bool
        Whether the cell records; else it is the first one that holds `id` in quotes.

    Returns
    -------
    dict
        The values (numbers or samples) that the cell records, by id.
    """
    cell = next(cell for cell in cells_of(name) if f'"{id}"' in cell and ("calipers.record" in cell or not records))
    found = {}
    given["calipers"] = SimpleNamespace(**vars(calipers))
    given["calipers"].record = lambda id, values, *_, **__: found.update({id: values})
    exec(compile(replaced(name, cell, replace), f"{name}.py", "exec"), given)
    return found


def replaced(name, text, replace):
    """The text with each old piece replaced by its new one; each has to occur, so that a break cannot miss."""
    for old, new in (replace or {}).items():
        assert old in text, f"{name} has no {old!r} to break"
        text = text.replace(old, new)
    return text


def records_of(name, folder, upto=None, replace=None, profile="smoke"):
    """Run a chapter's code cells, up to the one that records `upto`, with pieces of text replaced.

    They run in this process: a new one would spend most of its time on importing TensorFlow.

    Parameters
    ----------
    name : str
    folder : Path
        Where the records are written.
    upto : str, optional
        Id of the last record that is needed.
    replace : dict, optional
        Old text to new text.
    profile : str

    Returns
    -------
    dict
        The records (dicts) by id.
    """
    cells = cells_of(name)
    if upto:
        last = next(number for number, cell in enumerate(cells) if f'"{upto}"' in cell and "calipers.record" in cell)
        cells = cells[: last + 1]
    text = replaced(name, "\n".join(cells), replace)
    out = folder / "records.jsonl"
    out.unlink(missing_ok=True)
    keras.utils.clear_session()  # layers are numbered from one again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calipers.records, "_records", {})
        patch.setenv("CALIPERS_PROFILE", profile)
        patch.setenv("CALIPERS_RECORDS", str(out))
        exec(compile(text, f"{name}.py", "exec"), {"__name__": "__main__"})
    plt.close("all")
    return {record["id"]: record for record in map(json.loads, out.read_text("utf-8").splitlines())}
