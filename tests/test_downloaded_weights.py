"""Any net of keras.applications in place of the book's backbone, where its weights are at hand.

In a file of its own: the chapter's tests count breaks only when none of them was skipped.
"""

from pathlib import Path

import pytest
from chapters import definitions


def test_downloaded_weights_give_pooled_features():
    here = sorted((Path.home() / ".keras" / "models").glob("mobilenet_v2_*_no_top.h5"))
    if not any("1.0_96" in path.name for path in here):
        pytest.skip("the weights of MobileNetV2 are not on this machine, and are not downloaded for a test")
    assert definitions("transfer_learning")["pretrained"]("MobileNetV2", 96).output.shape == (None, 1280)
