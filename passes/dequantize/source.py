"""The float32 model from which everything starts, whatever a user's file was exported as."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.errors import ModelError, PassError
from edgeprune.passes.canonicalize import canonicalize, without_functions
from edgeprune.passes.dequantize.bfloat16 import (
    NO_BFLOAT16,
    Interface,
    bfloat16_values,
    interface_of,
    rounded,
    without_interface,
)
from edgeprune.passes.dequantize.lifting import LiftError
from edgeprune.passes.dequantize.pairs import Ranges, remove_pairs
from edgeprune.passes.dequantize.single_floats import as_float32, has_other_floats, is_double
from edgeprune.passes.dequantize.unpack import has_other_formats, is_quantized, unpack
from edgeprune.passes.verify import verify_equal

_ROUNDING = 0.1
"""Of an output's largest value: sums are rounded in another order, so a value takes another step in every layer."""

_SINGLE = 1e-4
"""Of an output's largest value, for a float64 model in float32."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FloatSource:
    """A canonical float32 model, and what its source was quantized with.

    Attributes:
        model: canonical, float32 inside; inputs and outputs as in the user's file.
        ranges: activation name -> (low, high), of the activations that the source quantizes.
        lifted: whether the user's model was quantized, and its float form was found.
        reference: runs in place of a model that onnxruntime cannot run: one in bfloat16, see
            `edgeprune.passes.dequantize.bfloat16`.
        interface: the inputs and outputs of the user's model that are bfloat16; those of ``model`` are float32.
        note: what was done to the user's model, or why it was left as it is; empty for a float32 model.
    """

    model: ir.Model
    ranges: Ranges = field(default_factory=dict)
    note: str = ""
    lifted: bool = False
    reference: ir.Model | None = None
    interface: Interface = NO_BFLOAT16


Lift = Literal["all", "to run", "to cut"]
"""What becomes float32: ``all``; of the models that can be cut as they are, those that onnxruntime cannot run on a CPU;
or none of these."""


def float_source(model: ir.Model, *, verify: bool = True, lift: Lift = "all") -> FloatSource:
    """The canonical float32 model of any model; with ``verify``, compared with it in onnxruntime.

    Q/DQ pairs, QOperator and dynamic formats become float operators; the weights keep the values that they were
    rounded to, and the ranges of the activations are kept. float16, bfloat16 and float64 become float32. A model with
    a node that has no float form stays as it is, and the note names the node.

    Args:
        model: as exported.
        verify: whether to compare.
        lift: float16 and Q/DQ pairs can be cut as they are; other formats cannot.

    Raises:
        ModelError: the model has no canonical form.
    """
    as_it_is = lift != "all" and not has_other_formats(model)
    if not (as_it_is and lift == "to cut") and (brain := _of_bfloat16(model, verify=verify)) is not None:
        return brain
    if as_it_is:
        return FloatSource(canonicalize(model, verify=verify))
    canonical, note = _single(model, verify=verify)
    if not is_quantized(canonical):
        return FloatSource(canonical, {}, note)
    try:
        fake = canonicalize(unpack(canonical), verify=False)
        if verify:
            verify_equal(model, fake, tolerance=_ROUNDING)
        floats, ranges = remove_pairs(fake)
    except (LiftError, ModelError, PassError) as error:
        logger.warning("the model stays quantized as it is: %s", error)
        return FloatSource(canonical, {}, f"the model stays quantized as it is: {error}")
    result = canonicalize(floats, verify=False)
    present = {str(v.name) for v in result.graph.inputs} | {str(v.name) for n in result.graph for v in n.outputs}
    kept = {name: found for name, found in ranges.items() if name in present}
    return FloatSource(
        result,
        kept,
        f"the model arrived quantized: float weights were restored, {_said_of(len(kept))}",
        lifted=True,
    )


def _said_of(ranges: int) -> str:
    if not ranges:
        return "and it has no ranges of activations to keep: it measures them at every inference"
    return f"and the {'range of one activation is' if ranges == 1 else f'ranges of {ranges} activations are'} kept"


def with_pairs(model: ir.Model) -> ir.Model:
    """The canonical form of a model in which a quantization shows as Q/DQ pairs, for what is only read or priced.

    Raises:
        ModelError: the model has no canonical form.
    """
    canonical, _ = _single(model, verify=False)
    if not has_other_formats(canonical):
        return canonical
    try:
        return canonicalize(unpack(canonical), verify=False)
    except (LiftError, ModelError, PassError):
        return canonical


def _of_bfloat16(model: ir.Model, *, verify: bool) -> FloatSource | None:
    """The source of a model in bfloat16; None if it has no such weights, is quantized too, or stays as it is."""
    prepared = without_functions(model)
    names = bfloat16_values(prepared)
    if not names or not has_other_floats(prepared) or is_quantized(prepared):
        return None
    single, interface = as_float32(prepared), interface_of(prepared)
    if single is None:
        return None
    try:
        plain = without_interface(single, interface)
        reference, result = rounded(plain, names), canonicalize(plain, verify=False)
        if verify:
            verify_equal(reference, result)
    except (ModelError, PassError) as error:
        logger.warning("the model stays in its float type: %s", error)
        return None
    return FloatSource(
        result,
        note="the model is in bfloat16, which onnxruntime has no CPU kernels for: its float32 form runs in its place; "
        "results are compared with it, its values rounded to bfloat16; inputs and outputs keep their types",
        reference=reference,
        interface=interface,
    )


def _single(model: ir.Model, *, verify: bool) -> tuple[ir.Model, str]:
    """The canonical form with float32 inside, and a note if the model had other floats."""
    prepared = without_functions(model)
    if not has_other_floats(prepared):
        return canonicalize(model, verify=verify), ""
    single = as_float32(prepared)
    if single is None:
        return canonicalize(model, verify=verify), "the model stays in its float type: it has custom operators"
    try:
        result = canonicalize(single, verify=False)
        graphs.check(result)
        if verify:
            verify_equal(model, result, tolerance=_SINGLE if is_double(prepared) else None)
    except (ModelError, PassError) as error:
        logger.warning("the model stays in its float type: %s", error)
        return canonicalize(model, verify=verify), f"the model stays in its float type: {error}"
    return result, "the model is compiled as float32; inputs and outputs keep their types"
