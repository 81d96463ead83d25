"""The same experiment over several seeds."""

import logging
import sys
import time

import numpy as np

from calipers.comparisons import Sample


def over_seeds(experiment, seeds, label="experiment"):
    """Run an experiment once a seed and collect what it returns.

    Before each run Python's, NumPy's and the backend's generators are seeded. Runs go through joblib: one after
    another unless a ``joblib.parallel_config`` says otherwise (``"loky"`` for local processes, ``"dask"`` for a
    cluster). One line of progress a seed goes to the standard error stream.

    Parameters
    ----------
    experiment : callable
        ``experiment(seed)`` returns a dict. Numbers and arrays become samples, anything else stays a list.
    seeds : sequence of int
    label : str
        Names the experiment in the lines of progress.

    Returns
    -------
    dict
        A :class:`Sample` (or a list) for each key that the experiment returns, and ``"seconds"``: how long each
        seed took, in seconds of wall clock.

    Raises
    ------
    ValueError
        If there is no seed, or one is there twice.
    """
    from joblib import Parallel, delayed

    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds is {seeds}: give at least one seed, and none twice.")
    results = Parallel()(delayed(_run)(experiment, seed, label) for seed in seeds)
    return {key: _collect([result[key] for result in results], seeds) for key in results[0]}


def _run(experiment, seed, label):
    import keras

    # Every seed builds its model anew, and TensorFlow would warn of every new trace of it.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    result = dict(experiment(seed))
    seconds = time.perf_counter() - start
    print(f"{label}, seed {seed}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return {**result, "seconds": seconds}


def _collect(values, seeds):
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        return values
    return Sample(array.astype(float), seeds) if array.dtype.kind in "biuf" else values
