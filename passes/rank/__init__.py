"""Passes by principal directions: two layers of low rank from one, and a narrower residual stream.

In: a canonical float model, samples, and a rank for each of some layers or a width of the stream.
Out: the model with these layers or this stream, chosen so that the outputs on the samples change least.
May import: passes.prune and below.
"""

from edgeprune.passes.rank.embedding import Embedding, embedding_of
from edgeprune.passes.rank.factor_layers import SAMPLING, factor_layers, factorable, first_of, principals
from edgeprune.passes.rank.factorization import Factors, Principal, principal
from edgeprune.passes.rank.fold_factors import fold_factors, layers_before
from edgeprune.passes.rank.multiply_factors import multiply_factors
from edgeprune.passes.rank.narrow_embedding import Directions, narrow_embedding, stream_directions
