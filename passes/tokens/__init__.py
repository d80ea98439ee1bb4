"""Passes that let a transformer lose tokens between its blocks.

In: a canonical model, the sites at which tokens may leave, and how many leave.
Out: the model with fewer tokens; for a model that has no site, the reason.
May import: dependency and below.
"""

from edgeprune.passes.tokens.reduce_tokens import reduce_tokens
from edgeprune.passes.tokens.settings import SETTINGS, TokenSetting, TokenStep
from edgeprune.passes.tokens.sites import Site, token_sites
