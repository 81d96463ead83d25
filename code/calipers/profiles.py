"""One source, three sizes: which profile a chapter runs in, and on which device."""

import os
import platform
import shutil
from pathlib import Path

PROFILES = ("smoke", "quick", "full")


def profile():
    """Name the profile that the chapter runs in.

    The environment variable ``CALIPERS_PROFILE`` decides. Without it the profile is ``full`` where the backend sees
    a GPU and ``quick`` elsewhere.

    Returns
    -------
    str
        ``"smoke"`` (seconds: does it run), ``"quick"`` (two CPU cores) or ``"full"`` (the reference run).

    Raises
    ------
    ValueError
        If ``CALIPERS_PROFILE`` names something else.
    """
    name = os.environ.get("CALIPERS_PROFILE", "").strip()
    if not name:
        return "full" if gpu_names() else "quick"
    if name not in PROFILES:
        raise ValueError(
            f"CALIPERS_PROFILE is {name!r}, which is no profile. Set it to smoke (seconds: does it run), quick (two CPU "
            "cores) or full (the reference run), or unset it to let the machine decide."
        )
    return name


def choose(*, smoke, quick, full):
    """Pick a budget by profile.

    Parameters
    ----------
    smoke, quick, full
        The value for each profile: epochs, examples, seeds, anything.

    Returns
    -------
    object
        The value that belongs to :func:`profile`.
    """
    return {"smoke": smoke, "quick": quick, "full": full}[profile()]


def offline():
    """Say whether this is the offline edition, in which stand-ins replace data sets that were not found."""
    return os.environ.get("CALIPERS_OFFLINE", "") == "1"


def gpu_names():
    """List the GPUs that the Keras backend sees.

    Returns
    -------
    list of str
        Empty without a GPU. The backend is imported only where a driver is installed, because importing it takes
        seconds.
    """
    driver = shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists()
    if not driver:
        return []
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
        return [entry.get("device_name", "GPU") for entry in details]
    if keras.backend.backend() == "jax":
        import jax

        return [entry.device_kind for entry in jax.devices() if entry.platform in ("gpu", "cuda", "rocm")]
    return []


def device():
    """Describe the device that trains, for a record's provenance.

    Returns
    -------
    str
        The GPU's name, or the CPU's model with the number of cores that this process may use.
    """
    gpus = gpu_names()
    if gpus:
        return gpus[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_model()}, {cores} cores"


def _cpu_model():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "CPU"
