"""The kinds of a model's outputs, and how each is compared with the original's.

In: a graph, and its outputs on some samples.
Out: what each output is; agreement and drop of each; whether a result is below the floor of usefulness.
May import: graph and below.
"""

from edgeprune.outputs.judging import Comparison, points, worst
from edgeprune.outputs.output_spec import Outputs, OutputSpec, spec_of
from edgeprune.outputs.usefulness import usefulness
