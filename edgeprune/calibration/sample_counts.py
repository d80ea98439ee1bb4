"""How many samples each statistic is taken from, and how many trials: as many as a fixed amount of work allows.

The cost of a compile then grows with the weights of a network, not with its pixels: one image of a large detector
shows thousands of positions, as many as hundreds of images of a small classifier. The work is in multiply-accumulates
of the dense network. Each value was chosen where a further sample changes the result less than other samples would: on
a trained YOLOv8n at 160 pixels, losses of 40 widths by 6 samples have a rank correlation of 0.99 with those by 29, and
by 2 samples of 0.97; on a ViT, those by 8 samples 0.98 with those by 256.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.outputs import DENSE_KINDS, Outputs

ALL = 1 << 30


@dataclass(frozen=True)
class SampleCount:
    """As many samples or trials as ``macs`` multiply-accumulates allow, at least ``least`` and at most ``most``."""

    macs: float
    least: int
    most: int = ALL

    def of(self, macs_of_one: float) -> int:
        """The number for a network, which may be more than there are."""
        return max(self.least, min(self.most, int(self.macs / max(macs_of_one, 1))))


OUTPUTS = SampleCount(5e10, 6, 32)
"""To see what the outputs are."""
RANGES = SampleCount(1e11, 8)
"""Ranges of activations, and second moments by which weights are rounded to fewer than 8 bits."""
BIASES = SampleCount(3e10, 8)
"""The change of a layer's mean by INT8, which its bias takes up: the same rows with and without rounding."""
RANGE_ROWS = SampleCount(4e10, 4, 128)
"""Inputs of layers on which calibrators are compared."""
RANGE_TRIALS = SampleCount(2e10, 3, 32)
"""Trials of calibrators in the whole network."""
EXTREMES = SampleCount(6e10, 4, 16)
"""Extremes of activations, to predict an overflow of float16 with a headroom of 2."""
COVARIANCES = SampleCount(1.1e11, 12)
"""Covariances by which units are ranked: the deepest layers of a detector have few positions in an image."""
COMPENSATION = SampleCount(1.1e11, 10)
"""The refit of the network that is delivered, which runs it beside the original, and its score."""
PRICES = SampleCount(8e9, 8, 256)
"""Trials of single widths and formats."""
DENSE_PRICES = SampleCount(8e9, 2, 256)
"""The same if every output has a value for each of many positions, as detections and maps do."""
WIDTH_TRIALS = SampleCount(1e12, 1, 2)
"""Widths that are tried of each group, by the work of one trial in every group. With one, the loss of other widths
follows the ranking, as steeply as it does in the groups of which more are tried."""
TOKEN_TRIALS = SampleCount(1e12, 8, 128)
"""Whole models with fewer tokens, or a narrower residual stream, by the work of one sample in all of them."""
FORMAT_SPLITS = SampleCount(3e11, 8, 20)
"""Times that a range of blocks is halved to find those that INT8 harms, by the work of two trials."""


def prices_of(outputs: Outputs | None) -> SampleCount:
    """How many samples the trial of a single width or format takes."""
    is_dense = outputs is not None and all(outputs.spec_of(name).kind in DENSE_KINDS for name in outputs.names)
    return DENSE_PRICES if is_dense else PRICES
