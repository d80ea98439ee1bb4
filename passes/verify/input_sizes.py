"""The sizes of a model's inputs for one run: given, as in the data, or proposed; and one sentence that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from edgeprune.errors import ModelError, UsageError
from edgeprune.graph import (
    ONNX_DOMAINS,
    InputShapes,
    batch_axes,
    data_inputs,
    dim_keys,
    equations,
    open_axes,
    size_candidates,
)
from edgeprune.images import exported_preprocessing
from edgeprune.lengths import evaluate
from edgeprune.passes.verify.running_sizes import running_sizes

Origin = Literal["fixed", "given", "data", "exported", "proposed"]
Sizes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class InputSizes:
    """A size for every axis of every input.

    Attributes:
        shapes: input name -> dimensions.
        origins: input name -> where they come from; an input whose batch alone is open counts as ``fixed``.
        because: what the graph needs of proposed sizes; empty if others would do.
    """

    shapes: InputShapes
    origins: Mapping[str, Origin]
    because: str = ""

    def sentences(self) -> tuple[str, ...]:
        """What was not given by the user or by the model: one sentence for the data, one for the proposals."""
        said = []
        if seen := self._named("data"):
            said.append(f"{seen}, as in the calibration data: --shape to change")
        if exported := self._named("exported"):
            said.append(f"{exported}, as the metadata of the export says: --shape to change")
        if proposed := self._named("proposed"):
            why = f"; {self.because}" if self.because else ""
            said.append(f"{proposed}, proposed from the graph: --shape to change{why}")
        return tuple(said)

    def _named(self, origin: Origin) -> str:
        """The inputs of one origin with their sizes; empty if there are none."""
        named = [f"{name}: {spelled(self.shapes[name])}" for name, found in self.origins.items() if found == origin]
        return f"{'input' if len(named) == 1 else 'inputs'} {', '.join(named)}" if named else ""


def spelled(dims: Sequence[int | None]) -> str:
    """Dimensions as ``--shape`` takes them; an open one is ``?``."""
    return "x".join("?" if d is None else str(d) for d in dims)


def settle_sizes(
    model: ir.Model, given: Sizes | None = None, data: Callable[[], Sizes] | None = None, *, run: bool = True
) -> InputSizes:
    """Sizes for all inputs: those given, of the data, of the export's metadata, or proposed ones at which it runs.

    An open batch is 1 unless it is given.

    Args:
        model: not changed.
        given: input name -> dimensions, from the user.
        data: called for the shapes of one sample if an axis stays open.
        run: whether proposals are checked by running the model; without that they only pass shape inference.

    Raises:
        UsageError: the given sizes do not fit the inputs, or no proposal works; the text names all open inputs.
    """
    given = {name: tuple(int(d) for d in dims) for name, dims in (given or {}).items()}
    check_sizes(model, given)
    wanted = {name for name, _ in open_axes(model) if name not in given}
    seen = {n: tuple(s) for n, s in (data() if data and wanted else {}).items() if n in wanted}
    known = {**given, **seen}
    decided = set(seen) - set(_undecided(model, given))
    origins: dict[str, Origin] = {}
    batches = batch_axes(model)
    for value in data_inputs(model):
        name = str(value.name)
        is_batch = name in decided and seen[name][batches[name]] == 1
        origins[name] = "given" if name in given else "data" if name in seen and not is_batch else "fixed"
    _check_needs(model, known, given, run=run)
    if stated := _exported(model, known, run=run):
        known |= stated
        origins |= dict.fromkeys(stated, "exported")
    left = _undecided(model, known)
    because = _because(model, left)
    origins |= dict.fromkeys(left, "proposed")
    if not left or not run or any(node.domain not in ONNX_DOMAINS for node in model.graph):
        shapes = next(size_candidates(model, known, typical=True), None)
        if shapes is None:
            raise UsageError(unresolved(model, known))
        return InputSizes(shapes, origins, because)
    try:
        return InputSizes(running_sizes(model, known, typical=True)[0], origins, because)
    except ModelError as error:
        raise UsageError(f"{unresolved(model, known)}: {error}") from error


def _exported(model: ir.Model, known: Sizes, *, run: bool) -> dict[str, tuple[int, ...]]:
    """The size of images that the exporter wrote into the file, for its only input, if the model runs at it."""
    left, size = _undecided(model, known), exported_preprocessing(model.metadata_props)[1]
    values = {str(v.name): v for v in data_inputs(model)}
    if len(left) != 1 or len(values) != 1 or size is None or len(dims := tuple(values[left[0]].shape or ())) != 4:
        return {}
    sides = (2, 3) if dims[1] in (1, 3) or dims[3] not in (1, 3) else (1, 2)
    told = dict(zip(sides, size, strict=True)) | {batch_axes(model)[left[0]]: 1}
    shape = tuple(dim if isinstance(dim, int) else told.get(axis, 0) for axis, dim in enumerate(dims))
    if not all(shape):
        return {}
    try:
        if run:
            running_sizes(model, {left[0]: shape})
    except ModelError:
        return {}
    return {left[0]: shape}


def _because(model: ir.Model, names: Sequence[str]) -> str:
    """The node whose constant decides the sizes of these inputs; empty if there is none."""
    values = {str(v.name): v for v in data_inputs(model)}
    symbols = [d for v in values.values() for d in dim_keys(v) or () if isinstance(d, str)]
    batches = batch_axes(model)
    own = [d for n in names for k, d in enumerate(dim_keys(values[n]) or ()) if isinstance(d, str) and k != batches[n]]
    for needed in equations(model) if own else ():
        if isinstance(needed.right, int) and any(needed.depends_on(symbol, symbols) for symbol in own):
            return f"node {needed.node!r} needs a length of {needed.right}"
    return ""


def _check_needs(model: ir.Model, known: Sizes, given: Sizes, *, run: bool) -> None:
    """Refuse known sizes at which a node does not get the length that it needs.

    Raises:
        UsageError: the text names the node.
    """
    if not open_axes(model) or any(name not in known for name, _ in open_axes(model)):
        return
    values = {str(v.name): v for v in data_inputs(model)}
    pairs = [(key, int(size)) for n, s in known.items() for key, size in zip(dim_keys(values[n]) or (), s, strict=True)]
    sizes = {key: size for key, size in pairs if isinstance(key, str)}
    failed = next((needed for needed in equations(model) if not needed.holds(sizes)), None)
    if failed is None:
        return
    try:  # what was derived may be wrong
        if run and running_sizes(model, known):
            return
    except ModelError:
        pass
    shown = ", ".join(f"{name}={spelled(dims)}" for name, dims in known.items())
    found, wanted = (evaluate(length, sizes) for length in (failed.left, failed.right))
    told = f"--shape {shown}" if given else f"the calibration data ({shown})"
    fits = next(size_candidates(model, typical=True), None) if isinstance(failed.right, int) else None
    hint = "" if fits is None else f"; {', '.join(f'{n}={spelled(s)}' for n, s in fits.items())} fits"
    raise UsageError(
        f"{told} does not fit the model: node {failed.node!r} gets a length of {found}, not {wanted}{hint}"
    )


def _undecided(model: ir.Model, known: Sizes) -> list[str]:
    """Inputs with an open axis, other than the batch, whose length no known size tells."""
    values = {str(v.name): v for v in data_inputs(model)}
    bound = {
        dim.value
        for name, dims in known.items()
        for dim, _ in zip(values[name].shape or (), dims, strict=True)
        if isinstance(dim, ir.SymbolicDim) and dim.value
    }
    found = []
    batches = batch_axes(model)
    for name, axis in open_axes(model):
        dim = (values[name].shape or ())[axis]
        if axis != batches[name] and name not in known and not (isinstance(dim, ir.SymbolicDim) and dim.value in bound):
            found.append(name)
    return list(dict.fromkeys(found))


def unresolved(model: ir.Model, known: Sizes) -> str:
    """The sentence that asks for sizes: all inputs whose sizes are open, with their shapes."""
    values = {str(v.name): v for v in data_inputs(model)}
    names = _undecided(model, known)
    shown = [f"{n} ({spelled([d if isinstance(d, int) else None for d in values[n].shape or ()])})" for n in names]
    inputs = f"input {shown[0]}" if len(shown) == 1 else f"inputs {', '.join(shown)}"
    return f"no sizes could be proposed for {inputs}: give --shape NAME=SIZES for {'it' if len(shown) == 1 else 'each'}"


def check_sizes(model: ir.Model, given: Sizes) -> None:
    """Refuse sizes that do not fit the inputs, or each other.

    Raises:
        UsageError: the text names the input.
    """
    values = {str(v.name): v for v in data_inputs(model)}
    bound: dict[str, tuple[int, str]] = {}
    for name, dims in given.items():
        if name not in values:
            raise UsageError(f"--shape names {name!r}, which is not an input; the inputs are {', '.join(values)}")
        declared = values[name].shape
        if declared is None:
            continue
        asked = f"--shape {name}={spelled(dims)}"
        takes = f"{spelled([d if isinstance(d, int) else None for d in declared]) or 'a single number'}"
        fits = all(not isinstance(d, int) or d == n for d, n in zip(declared, dims, strict=False))
        if len(declared) != len(dims) or not fits:
            raise UsageError(f"{asked} does not fit the input, which is {takes}")
        for dim, size in zip(declared, dims, strict=True):
            if isinstance(dim, ir.SymbolicDim) and dim.value:
                before, other = bound.setdefault(dim.value, (size, name))
                if before != size:
                    where = "the same input" if other == name else f"input {other!r}"
                    raise UsageError(f"{asked} contradicts {where}: {dim.value!r} is {before} there")
