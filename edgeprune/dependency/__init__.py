"""Dependency analysis: which channels, heads and groups can be removed together.

In: a canonical model.
Out: groups of units; every frozen axis with its reason; the repairs that pruning needs; the drawings of `inspect`.
May import: passes.dequantize, report and below.
"""

from edgeprune.dependency.dims import Axis, NodeView, Rel, rule, rule_of
from edgeprune.dependency.drawing_page import drawing_html
from edgeprune.dependency.graph_drawing import picture, picture_of, to_dot
from edgeprune.dependency.groups import Cut, Group, Ranking
from edgeprune.dependency.inspection import inspect_model, inspection_of
from edgeprune.dependency.opened_model import OpenedModel, Shapes, file_digest, open_model
from edgeprune.dependency.repair import Repair, RepairFunction
from edgeprune.dependency.residual_branches import Branch, bypassed, droppable
from edgeprune.dependency.rules import repair_of
from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.dependency.widths import AxisLengths, Dim, TiedWidths, Widths, axis_lengths
