"""The pipelines of the commands that produce a result: compile, prune, profile.

In: a request: model, target, budget, data.
Out: a folder with model, plan and report, either complete or not written at all.
May import: search and below.
"""

from edgeprune.compiler.compile import compile_model
from edgeprune.compiler.opening import open_model_and_data, open_shapes
from edgeprune.compiler.pareto import compile_pareto
from edgeprune.compiler.profile_device import profile_on_device
from edgeprune.compiler.prune import prune_model
from edgeprune.compiler.recipe import Recipe, Value, as_given, read_recipe
from edgeprune.compiler.request import Request
