"""Experiments over seeds: seeded everywhere, collected by key, the same in parallel."""

import random
import time

import joblib
import numpy as np
import pytest
from calipers import Sample, over_seeds


def random_numbers(seed):
    """One random number of each generator that a chapter may use."""
    import keras

    return {
        "python": random.random(),
        "numpy": np.random.random(),
        "keras": float(keras.random.uniform(())),
        "initialiser": float(keras.initializers.RandomNormal()(())),
    }


def random_walk(seed):
    """A tiny experiment that needs NumPy alone: a number and a curve."""
    steps = np.random.normal(size=5)
    return {"end": steps.sum(), "walk": steps.cumsum()}


def test_every_generator_is_seeded():
    first, again = over_seeds(random_numbers, (7, 8, 9)), over_seeds(random_numbers, (9, 7))
    for name in ("python", "numpy", "keras", "initialiser"):
        values = first[name].values
        assert len(set(values)) == 3, f"{name} gives different seeds the same number"
        np.testing.assert_array_equal(again[name].values, values[[2, 0]], err_msg=name)


def test_experiment_is_told_its_seed():
    result = over_seeds(lambda seed: {"seed": seed}, [3, 1, 2])
    assert result["seed"].seeds == (3, 1, 2)
    np.testing.assert_array_equal(result["seed"].values, [3, 1, 2])


@pytest.mark.parametrize("seeds", [(), (1, 2, 1)])
def test_no_seed_and_a_repeated_seed_are_refused(seeds):
    with pytest.raises(ValueError, match="at least one seed, and none twice"):
        over_seeds(random_walk, seeds)


def test_numbers_and_arrays_become_samples():
    result = over_seeds(lambda seed: {"accuracy": 90 + seed, "curve": seed * np.arange(4), "list": [seed, 0]}, range(3))
    assert isinstance(result["accuracy"], Sample)
    assert result["accuracy"].values.shape == (3,)
    assert result["curve"].values.shape == (3, 4)
    np.testing.assert_array_equal(result["curve"].values[2], [0, 2, 4, 6])
    assert result["list"].values.shape == (3, 2)


@pytest.mark.parametrize(
    "values",
    [
        ["stable", "diverged"],
        ["10", "20"],
        [None, None],
        [{"depth": 1}, {"depth": 2}],
        [[1, 2], [1, 2, 3]],
    ],
    ids=["words", "digits in words", "nothing", "dicts", "curves of different lengths"],
)
def test_anything_else_stays_a_list(values):
    assert over_seeds(lambda seed: {"thing": values[seed]}, (0, 1))["thing"] == values


def test_seconds_are_measured_for_every_seed():
    result = over_seeds(lambda seed: time.sleep(0.05 * seed) or {}, (0, 2))
    assert result["seconds"].seeds == (0, 2)
    assert result["seconds"].values[0] < 0.05
    assert 0.1 <= result["seconds"].values[1] < 1


def test_progress_goes_to_the_error_stream(capsys):
    over_seeds(random_walk, (4, 5), label="random walk")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.partition(":")[0] for line in captured.err.splitlines()] == [
        "random walk, seed 4",
        "random walk, seed 5",
    ]


def test_parallel_processes_give_the_same_results():
    one_by_one = over_seeds(random_walk, (0, 1, 2))
    with joblib.parallel_config(backend="loky", n_jobs=2):
        in_parallel = over_seeds(random_walk, (0, 1, 2))
    for key in ("end", "walk"):
        assert in_parallel[key].seeds == one_by_one[key].seeds
        np.testing.assert_array_equal(in_parallel[key].values, one_by_one[key].values)
