"""ONNX files in and out as checked models, facts that are read from a graph, and graph edits that passes share.

In: an ONNX file, or an `onnx_ir.Model`.
Out: a model with inferred shapes, its linear layers, segments, MACs and memory; edited graphs.
May import: support and below.
"""

from edgeprune.graph.activation_memory import peak_activation_bytes
from edgeprune.graph.batch_axis import (
    BATCH_NAME,
    batch_axes,
    batch_axis_of,
    batch_symbols,
    data_inputs,
    open_axes,
    symbol_of,
)
from edgeprune.graph.declarations import add_warning, compare_with_results, warnings_of
from edgeprune.graph.edit import (
    ONNX_DOMAINS,
    UNRESOLVED,
    Names,
    add_initializer,
    add_node,
    constant,
    constant_tensor,
    detach,
    dim_keys,
    find_value,
    fresh_name,
    has_subgraph,
    input_at,
    int64_initializer,
    ints_attribute,
    is_op,
    naming,
    new_initializer,
    new_node,
    only_use,
    place_after,
    remove_dead,
    replace_value,
    static_shape,
    subgraphs,
)
from edgeprune.graph.inner_outputs import with_outputs
from edgeprune.graph.length_elements import Memo as LengthMemo
from edgeprune.graph.length_elements import elements_of
from edgeprune.graph.length_equations import Equation, equations, fix_inputs, forced_lengths
from edgeprune.graph.linear_layers import (
    Floats,
    Linear,
    find_linears,
    layers_by_weight,
    linear_of,
    weights_read_once,
)
from edgeprune.graph.macs import count_macs, count_parameters
from edgeprune.graph.model_io import (
    EXTERNAL_DATA_BYTES,
    check,
    clone,
    complete_shapes,
    infer_shapes,
    load,
    parse_shape_option,
    save,
    to_bytes,
    to_bytes_and_weights,
    to_references,
    weight_bytes,
)
from edgeprune.graph.move_body import move_body
from edgeprune.graph.opset import convert_opset
from edgeprune.graph.qdq import (
    Refused,
    asymmetric_scale,
    dequantized_weight,
    insert_qdq,
    merge_equal_integers,
    opset_allows_int8,
    quantize,
    quantize_weight,
    representable_scale,
    require_int8,
    symmetric_scale,
)
from edgeprune.graph.reshape_axes import VIEWS, aligned_groups, constant_target, turn_into_reshape
from edgeprune.graph.segments import Segment, aligned_levels, cut_into_segments, read_names, segment_bytes
from edgeprune.graph.set_weights import (
    has_bias,
    layer_bias,
    layer_matrix,
    set_shared_weights,
    set_weights,
    shift_outputs,
    with_weights_of,
)
from edgeprune.graph.shape_inference import contradiction
from edgeprune.graph.size_candidates import InputShapes, size_candidates
from edgeprune.graph.value_roles import is_exact, value_roles
