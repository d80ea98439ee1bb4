"""Small models that several tests share."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgeprune.testing.oracle import parse


def single(text: str, opset: int = 17, **shapes: Sequence[int]) -> ir.Model:
    """A model of one graph text; weights by name and shape, constants within the text."""
    return parse(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}', **shapes)


def sizes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """Initializer -> shape."""
    return {name: tuple(int(d) for d in v.shape) for name, v in model.graph.initializers.items() if v.shape is not None}
