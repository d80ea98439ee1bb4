"""Training of the deployed graph, Q/DQ included, from unlabelled data; the dense model is the teacher.

In: the folder of a compile or a prune, and samples.
Out: a folder like it with other weights in the same nodes.
May import: build, executor and below, and torch; without torch only the settings are here.
"""

from edgeprune.distill.settings import DEFAULT_LOSSES, LOSS_NAMES, Settings, parse_losses
from edgeprune.executor import has_torch

if has_torch():
    from edgeprune.distill import head_losses, inner_losses
    from edgeprune.distill.distill import distill_folder
    from edgeprune.distill.stage import train_built
