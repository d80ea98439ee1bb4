"""The mathematics of INT8 quantization and 2:4 sparsity.

In: activations and weights.
Out: activation ranges, channel scales, rounded weights, 2:4 masks, channel orders.
May import: recovery and below.
"""

from edgeprune.quantization.channel_ranges import ChannelRange, channel_ranges
from edgeprune.quantization.channel_scaling import Scaling, channel_peaks, feature_scale, find_scalings
from edgeprune.quantization.channel_stripes import best_order
from edgeprune.quantization.column_updates import Grid, round_rows, row_losses
from edgeprune.quantization.range_choice import best_ranges
from edgeprune.quantization.ranges import CALIBRATORS, Histogram, Range, extremes, histograms, range_by, trained_range
from edgeprune.quantization.second_moments import MEANS, MOST_FEATURES, SAMPLING, InputMoments, Quantizer, input_moments
from edgeprune.quantization.two_four import METHODS, Method, is_two_of_four, sparsify_matrix
