"""Profiles: the environment decides, then the machine; budgets and the device follow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from calipers import choose, device, profile, profiles

CODE = Path(__file__).resolve().parents[1] / "code"


@pytest.mark.parametrize("name", ["smoke", "quick", "full"])
def test_environment_decides(monkeypatch, name):
    monkeypatch.setenv("CALIPERS_PROFILE", name)
    assert profile() == name


@pytest.mark.parametrize("name", ["fast", "Quick", "smoke,full"])
def test_unknown_profile_is_refused_with_the_three_names(monkeypatch, name):
    monkeypatch.setenv("CALIPERS_PROFILE", name)
    with pytest.raises(ValueError, match=rf"'{name}'.*smoke.*quick.*full"):
        profile()


@pytest.mark.parametrize(("gpus", "expected"), [([], "quick"), (["NVIDIA H200"], "full")])
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_without_a_name_the_machine_decides(monkeypatch, blank, gpus, expected):
    if blank is None:
        monkeypatch.delenv("CALIPERS_PROFILE", raising=False)
    else:
        monkeypatch.setenv("CALIPERS_PROFILE", blank)
    monkeypatch.setattr(profiles, "gpu_names", lambda: gpus)
    assert profile() == expected


@pytest.mark.parametrize(("name", "epochs"), [("smoke", 1), ("quick", 8), ("full", 60)])
def test_choose_picks_the_budget_of_the_profile(monkeypatch, name, epochs):
    monkeypatch.setenv("CALIPERS_PROFILE", name)
    assert choose(smoke=1, quick=8, full=60) == epochs


def test_choose_asks_for_all_three_budgets():
    with pytest.raises(TypeError, match="full"):
        choose(smoke=1, quick=8)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), ("", False)])
def test_offline_edition_is_asked_for_by_a_one(monkeypatch, value, expected):
    monkeypatch.setenv("CALIPERS_OFFLINE", value)
    assert profiles.offline() is expected


def run(code):
    """Run calipers in a Python of its own, without a profile chosen; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(CODE), "CALIPERS_PROFILE": ""}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_no_backend_is_imported_where_there_is_no_driver():
    if shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists():
        pytest.skip("this machine has a GPU's driver")
    assert run("import sys, calipers; print(calipers.profile(), 'keras' in sys.modules)") == "quick False"


def test_device_is_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(profiles, "gpu_names", lambda: ["NVIDIA H200", "NVIDIA H200"])
    assert device() == "NVIDIA H200"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind a process to cores")
def test_device_is_the_cpu_with_the_cores_that_the_process_may_use():
    if profiles.gpu_names():
        pytest.skip("this machine has a GPU")
    bind = "import os, calipers; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    model, _, cores = run(bind + "print(calipers.device())").rpartition(", ")
    assert model
    assert cores.startswith("1 core")
