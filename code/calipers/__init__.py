"""Calipers: what the chapters of *Deep Learning, Measured* need and what would distract in them.

Data, profiles, seeds, records, comparisons, per-layer gradients and the figures' style. What a reader has to see
to understand a chapter stands in the chapter. Importing this package imports neither Keras nor a backend.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said here because a reader may run a chapter without installing
    raise ImportError(
        "calipers needs Python 3.11 or newer; this is Python {}.{}. Install a newer Python "
        "(https://www.python.org/downloads/) and run the chapter with it, or open the chapter in Colab.".format(
            *sys.version_info[:2]
        )
    )

from calipers import backbone, datasets
from calipers.comparisons import Comparison, Sample, compare
from calipers.experiments import over_seeds
from calipers.figures import COLOURS, show, show_interactive, style
from calipers.layers import layer_activations, layer_gradients
from calipers.profiles import choose, device, profile
from calipers.records import Record, record

__version__ = "0.1.0"

__all__ = [
    "COLOURS", "Comparison", "Record", "Sample", "backbone", "choose", "compare", "datasets", "device", "layer_activations",
    "layer_gradients", "over_seeds", "profile", "record", "show", "show_interactive", "style",
]  # fmt: skip
