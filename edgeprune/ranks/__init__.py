"""Low rank as one more format of a block: where two layers are faster than one, and what they lose.

In: a network, its latency, and the losses of its other formats.
Out: the latency and the losses with formats of low rank.
May import: search and below.
"""

from edgeprune.ranks.candidates import ALLOWED, Ranked, ranked
from edgeprune.ranks.losses import rank_losses
from edgeprune.ranks.pricing import RankPricer
