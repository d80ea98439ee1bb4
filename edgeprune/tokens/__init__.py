"""Fewer tokens, or a narrower residual stream: what leaves a transformer before all else is chosen, if that pays.

In: an opened transformer, the search problem without it, and the latency of any model.
Out: the schedule that serves a goal best, and the opened model with fewer tokens; or why none pays.
May import: search and below.
"""

from edgeprune.tokens.choice import TokenChoice, choose_tokens, choose_within, why_all_stay
from edgeprune.tokens.family import schedules
from edgeprune.tokens.narrowing import ALLOWED_EMBEDDINGS, Narrowing, stream_trials, streams_to_try, units_of
from edgeprune.tokens.schedule import ALLOWED, TokenSchedule, with_fewer_tokens
from edgeprune.tokens.shares import cpu_shares, predicted_shares
from edgeprune.tokens.trials import TokenTrial, try_schedules
