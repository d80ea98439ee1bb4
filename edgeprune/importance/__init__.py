"""Criteria: in which order units are best removed, and what that costs. One file a family, registered by name.

In: groups, weights and calibration data.
Out: for every group a `Ranking`: the order of removal and the loss after each removal.
May import: quantization and below.
"""

from edgeprune.importance.context import Consumer, Context
from edgeprune.importance.obs import DAMPING, MOST_FEATURES, gather_moments, next_wave
from edgeprune.importance.ranking import DEFAULT_CRITERION, rank
from edgeprune.importance.rankings import LateRankings, rankings_of
from edgeprune.importance.registry import CRITERIA, Criterion, criterion, find_criterion
from edgeprune.importance.uniform_cut import choose
