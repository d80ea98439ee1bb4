"""Importance criteria: the order in which units are removed, and the loss. One file a family, registered by name.

In: groups, weights and calibration data.
Out: a `Ranking` for every group: the order of removal and the loss after each removal.
May import: quantization and below.
"""

from edgeprune.importance.context import Consumer, Context
from edgeprune.importance.obs import DAMPING, GRAM_BYTES, GRAM_SHARE, MOST_FEATURES, gather_moments
from edgeprune.importance.ranking import rank
from edgeprune.importance.rankings import STEP, LateRankings
from edgeprune.importance.reader_refits import ReaderRefits, refit_widths, removed_at_once
from edgeprune.importance.registry import CRITERIA, find_criterion
from edgeprune.importance.surgeon import DOUBLE_PRECISION_FEATURES
from edgeprune.importance.uniform_cut import choose
