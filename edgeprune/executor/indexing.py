"""Operators that pick, place or pad elements."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgeprune.executor.registry import Call, Kernel, Tensor, ints, op

_LONG = torch.int64


@op("Slice", host=(1, 2, 3, 4))
def slices(call: Call) -> Kernel:
    """Starts and ends are cut to the axis; negative ones count from its end."""
    fixed = [call.integers(name) for name in ("starts", "ends", "axes")]

    def kernel(
        x: Tensor,
        starts: Tensor | None = None,
        ends: Tensor | None = None,
        axes: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        first, last = (f if t is None else ints(t) for f, t in zip(fixed, (starts, ends), strict=False))
        assert first is not None
        assert last is not None
        where = (fixed[2] or list(range(len(first)))) if axes is None else ints(axes)
        by = [1] * len(first) if steps is None else ints(steps)
        for start, end, axis, step in zip(first, last, where, by, strict=True):
            positions = range(x.shape[axis])[start:end:step]
            if step > 0:
                x = x[(slice(None),) * (axis % x.dim()) + (slice(start, end, step),)]
            else:
                x = x.index_select(axis, torch.tensor(list(positions), dtype=_LONG, device=x.device))
        return x

    return kernel


@op("Gather")
def gather(call: Call) -> Kernel:
    """The indices' axes take the place of one axis."""
    axis = call.integer("axis", 0) % max(1, call.rank())
    indices = call.inputs[1]
    assert indices is not None
    if call.constant[1] and not indices.dim():
        position = int(indices)
        return lambda x, _: x.select(axis, position)

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        flat = indices.reshape(-1).to(_LONG)
        flat = torch.where(flat < 0, flat + x.shape[axis], flat)
        picked = x.index_select(axis, flat)
        return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

    return kernel


@op("GatherElements")
def gather_elements(call: Call) -> Kernel:
    """One index for each element of the result."""
    axis = call.integer("axis", 0)
    return lambda x, indices: torch.gather(x, axis, _wrapped(indices, x.shape[axis]))


@op("GatherND")
def gather_nd(call: Call) -> Kernel:
    """The last axis of the indices holds coordinates."""
    batch = call.integer("batch_dims", 0)

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        lead, depth = x.shape[:batch], indices.shape[-1]
        flat = x.reshape(-1, *x.shape[batch:])
        picks = indices.reshape(flat.shape[0], -1, depth)
        rows = torch.arange(flat.shape[0], device=x.device)[:, None]
        places = tuple(_wrapped(picks[..., i], flat.shape[1 + i]) for i in range(depth))
        at = (rows, *places)
        found = flat[at]
        return found.reshape(*lead, *indices.shape[batch:-1], *x.shape[batch + depth :])

    return kernel


@op("ScatterND")
def scatter_nd(call: Call) -> Kernel:
    """Updates at coordinates."""
    mode = call.text("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth, inner = indices.shape[-1], x.shape[indices.shape[-1] :]
        place = torch.zeros(indices.shape[:-1], dtype=_LONG, device=x.device)
        for i in range(depth):
            place = place * x.shape[i] + _wrapped(indices[..., i], x.shape[i])
        flat = x.reshape(-1, *inner)
        rows = place.reshape(-1)
        return _placed(flat, rows, updates.reshape(-1, *inner), mode).reshape(x.shape)

    return kernel


@op("ScatterElements")
def scatter_elements(call: Call) -> Kernel:
    """One index for each update."""
    axis, mode = call.integer("axis", 0), call.text("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places = _wrapped(indices, x.shape[axis])
        if mode == "none":
            return x.scatter(axis, places, updates)
        return x.scatter_reduce(axis, places, updates, _REDUCTIONS[mode], include_self=True)

    return kernel


_REDUCTIONS = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}


def _placed(x: Tensor, rows: Tensor, updates: Tensor, mode: str) -> Tensor:
    if mode == "none":
        return x.index_copy(0, rows, updates)
    spread = rows.reshape(-1, *[1] * (x.dim() - 1)).expand_as(updates)
    return x.scatter_reduce(0, spread, updates, _REDUCTIONS[mode], include_self=True)


def _wrapped(indices: Tensor, length: int) -> Tensor:
    """Indices as PyTorch takes them: 64 bits, none negative."""
    indices = indices.to(_LONG)
    return torch.where(indices < 0, indices + length, indices)


@op("Pad", host=(1, 2, 3))
def pad(call: Call) -> Kernel:
    """Negative padding cuts."""
    mode, fixed = call.text("mode", "constant"), call.integers("pads")
    filled = call.real("value", 0.0)

    def kernel(
        x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
    ) -> Tensor:
        lengths = ints(pads) if pads is not None else fixed or []
        where = list(range(x.dim())) if axes is None else [a % x.dim() for a in ints(axes)]
        count = len(where)
        if mode != "constant":
            for axis, before, after in zip(where, lengths[:count], lengths[count:], strict=True):
                x = _extended(x, axis, before, after, mode)
            return x
        by_axis = dict(zip(where, zip(lengths[:count], lengths[count:], strict=True), strict=True))
        flat = [p for axis in reversed(range(x.dim())) for p in by_axis.get(axis, (0, 0))]
        number = filled if value is None or not value.numel() else value.reshape(-1)[0].item()
        return functional.pad(x, flat, value=number)

    return kernel


def _extended(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """An axis with reflected, repeated or wrapped elements at its ends."""
    if not before and not after:
        return x
    length = x.shape[axis]
    places = torch.arange(-before, length + after, device=x.device)
    if mode == "edge":
        places = places.clamp(0, length - 1)
    elif mode == "wrap":
        places = places % length
    else:
        period = max(1, 2 * (length - 1))
        places = places % period
        places = torch.where(places >= length, period - places, places)
    return x.index_select(axis, places)


@op("Trilu", host=(1,))
def trilu(call: Call) -> Kernel:
    """The upper or the lower triangle."""
    cut = torch.triu if call.integer("upper", 1) else torch.tril
    return lambda x, k=None: cut(x, 0 if k is None else int(k))


@op("OneHot", host=(1,))
def one_hot(call: Call) -> Kernel:
    """A new axis with one value at the index and another elsewhere."""
    axis = call.integer("axis", -1)

    def kernel(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = ints(depth)[0]
        classes = torch.arange(count, device=values.device)
        hot = _wrapped(indices, count).unsqueeze(-1).to(values.device) == classes
        return torch.where(hot, values[1], values[0]).movedim(-1, axis)

    return kernel


@op("ReverseSequence", host=(1,))
def reverse_sequence(call: Call) -> Kernel:
    """The first elements of every sequence, reversed."""
    batch, time = call.integer("batch_axis", 1), call.integer("time_axis", 0)

    def kernel(x: Tensor, lengths: Tensor) -> Tensor:
        y = x.movedim((batch, time), (0, 1))
        rows = [torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(y, ints(lengths), strict=True)]
        return torch.stack(rows).movedim((0, 1), (batch, time))

    return kernel


@op("NonZero", unsized=True)
def non_zero(call: Call) -> Kernel:
    """Coordinates, one row an axis."""
    return lambda x: torch.nonzero(x).t()


@op("Compress", unsized=True)
def compress(call: Call) -> Kernel:
    """The elements whose condition holds."""
    axis = call.attributes.get("axis")

    def kernel(x: Tensor, condition: Tensor) -> Tensor:
        places = torch.nonzero(condition).reshape(-1)
        return x.reshape(-1)[places] if axis is None else x.index_select(axis.as_int(), places)

    return kernel
