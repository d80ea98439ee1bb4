"""The pass that makes two layers of low rank from one, and folds them into linear neighbours.

In: a canonical float model, a rank for each of some layers, and samples.
Out: the model with the two layers in place of each, chosen so that the outputs on the samples change least.
May import: passes.prune and below.
"""

from edgeprune.passes.rank.factor_layers import SAMPLING, factor_layers, factorable, first_of, principals
from edgeprune.passes.rank.factorization import Factors, Principal, principal
from edgeprune.passes.rank.fold_factors import fold_factors, layers_before
from edgeprune.passes.rank.multiply_factors import multiply_factors
