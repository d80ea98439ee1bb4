"""The joint search for widths, 2:4 sparsity and precisions within a budget.

In: a budget, a latency model, and the losses of all widths and formats.
Out: a candidate with its predicted latency and loss.
May import: build and below.
"""

from edgeprune.search.attempts import build_within
from edgeprune.search.closed_loop import ClosedLoop
from edgeprune.search.float_reasons import stays_float
from edgeprune.search.format_race import Race, Raced, race_formats
from edgeprune.search.goal import DEFAULT_MAX_DROP, Goal
from edgeprune.search.joint_trial import JointTrial, open_joint_trial
from edgeprune.search.least_latency import least_latency
from edgeprune.search.loss_scales import Refined, refine, reweighted
from edgeprune.search.milp import solve_around
from edgeprune.search.open_loop import OpenLoop, SearchLoop
from edgeprune.search.pricing import (
    FormatLosses,
    Levels,
    Pricer,
    WidthLosses,
    levels_of,
    no_widths,
    typical_ranges,
    uncut,
)
from edgeprune.search.problem import Candidate, Problem
from edgeprune.search.score_cache import ScoreCache
from edgeprune.search.search_history import SearchHistory, load_history, save_history
from edgeprune.search.sensitivity import format_losses
from edgeprune.search.solver import Searcher, fastest, search
from edgeprune.search.sparse_losses import sparse_losses
from edgeprune.search.timings import FeasibleCandidate, StartingPoint, Timing, noise
from edgeprune.search.unpruned import all_int8, best_unpruned, most_accurate_unpruned
