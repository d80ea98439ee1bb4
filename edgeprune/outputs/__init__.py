"""The kinds of a model's outputs, and how each is compared with the original's.

In: a graph, and its outputs on some samples.
Out: what each output is; agreement and drop of each; whether a result is below the floor of usefulness.
May import: graph and below.
"""

from edgeprune.outputs.certainty import (
    agreement_interval,
    jackknife_interval,
    mean_interval,
    paired_interval,
    samples_for_a_point,
    score_interval,
    value_range,
)
from edgeprune.outputs.choice import METRICS_OF_USERS, Choice
from edgeprune.outputs.choices import Place, find_choices
from edgeprune.outputs.class_agreement import nan_last
from edgeprune.outputs.class_scores import sum_to_one
from edgeprune.outputs.find import find_outputs, outputs_of_values
from edgeprune.outputs.judging import MOST_POINTS, Comparison, points, worst
from edgeprune.outputs.output_spec import CLASS_MAP, DENSE_KINDS, DETECTIONS, ROWS, TOP1, Outputs, OutputSpec
from edgeprune.outputs.signal_noise import CEILING_DB, channel_axis
from edgeprune.outputs.usefulness import unseen, usefulness
