"""Layouts: a part of a network that computes on channels-last tensors, between Transposes, computes on channels-first.

In: a model with inferred shapes, opset 13 or newer.
Out: the same computation with fewer Transposes; names, order and types of inputs and outputs stay.
May import: graph and below.
"""

from edgeprune.passes.layout.channels_first import channels_first
from edgeprune.passes.layout.flatten_rows import flatten_rows
