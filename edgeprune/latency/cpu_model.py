"""Latency model of a CPU for one network: blocks measured at aligned widths, in float and in INT8."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import Tracer
from edgeprune.calibration import IntermediateOutputs
from edgeprune.dependency import Widths
from edgeprune.latency import formats as forms
from edgeprune.latency.block_latency import Format, LatencyModel, fit_theta
from edgeprune.latency.block_network import Network, lowest_units
from edgeprune.latency.features import FEATURES, describe
from edgeprune.latency.ranked_layers import factored_for_timing, int8_nodes_in
from edgeprune.passes.prune import prune_channels
from edgeprune.quantization import extremes
from edgeprune.support import LatencyCache

RANDOM_VARIANTS = 6
"""Networks of random aligned widths that are measured in each INT8 format, beside the dense one: more than a block has
features. With three more, networks that are left out of the fit are not predicted better."""

FLOAT_VARIANTS = 3
"""The same in float where there is INT8: few blocks stay in float, and those that have no INT8 form are in all."""

MIXED_VARIANTS = 3
"""Networks of random formats, from which the cost of conversions between float and INT8 is fitted."""

SECONDS_PER_VARIANT = 0.5

INNER_RANGE = (-4.0, 4.0)
"""A plausible range of the values between two layers of low rank, which have unit variance."""

_NOTHING_US = 1e-2

_Sample = tuple[NDArray[np.float64], float]
"""Features of a block, and its latency in microseconds."""


@dataclass(frozen=True, eq=False)
class _Variant:
    widths: Widths
    formats: tuple[Format, ...]
    mixed: bool


def measure(
    net: Network,
    feeds: Mapping[str, NDArray[np.generic]],
    cache: LatencyCache,
    *,
    tracer: Tracer,
    lanes: int,
    pace: Callable[[], float] = lambda: 1.0,
    quantizable: bool = True,
    cuttable: bool = True,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> LatencyModel:
    """Measure the networks that are not in the cache yet, and fit the latency model.

    Args:
        net: the network.
        feeds: one input, for timing and for plausible ranges.
        cache: cache of the device, in which measurements are stored.
        tracer: times the blocks of a model on the device.
        lanes: channels in a vector register.
        pace: current latency of a fixed model; times are corrected for its changes, which are changes of the machine.
        quantizable: whether INT8 formats are measured.
        cuttable: whether other widths than the dense ones are measured; if not, the model holds for these alone.
        seed: seed of the random widths; with the same seed a second run finds all measurements in the cache.
        progress: called with the fraction done.
    """
    variants = _variants(net, quantizable, cuttable, np.random.default_rng(seed))
    ranges = observed_ranges(net, feeds) if quantizable else {}
    works = [_works(net, v) for v in variants]
    different = {_whole(w): i for i, w in enumerate(works)}.values()
    missing = [i for i in different if cache.get_all([*works[i].values(), _whole(works[i])]) is None]
    known = [i for i in different if i not in missing]
    fresh: list[tuple[float, dict[str, float]]] = []
    before = pace() if missing else 0.0
    # A network that is known is measured with the others: it tells how fast the machine is now against then.
    for done, i in enumerate([*known[:1], *missing] if missing else [], 1):
        times = _measure_variant(net, variants[i], works[i], ranges, tracer)
        after = pace()
        fresh.append(((before + after) / 2, times))
        before = after
        if i in missing:
            cache.put(times)
        if progress is not None:
            progress(done / (len(missing) + 1))
    usual = float(np.median([taken for taken, _ in fresh])) if fresh else 1.0
    paced = [{work: us * usual / taken for work, us in times.items()} for taken, times in fresh]
    faster = 1.0
    if known and missing:
        whole = _whole(works[known[0]])
        faster = (cache.get_all([whole]) or {})[whole] / paced.pop(0)[whole]
    for times in paced:
        cache.put({work: us * faster for work, us in times.items()})
    samples: dict[Format, list[tuple[int, NDArray[np.float64], float]]] = {}
    totals: list[tuple[_Variant, float]] = []
    # Read from the cache, where a block that occurs in several variants has one time: a second run gets the same times.
    for v, mine in zip(variants, works, strict=True):
        times = cache.get_all([*mine.values(), _whole(mine)]) or {}
        totals.append((v, times[_whole(mine)]))
        if not v.mixed:
            for b, work in mine.items():
                features = net.geometries[b].features(v.widths, net.sizes, lanes)
                samples.setdefault(v.formats[b], []).append((b, features, times[work]))
    return _fit(net, samples, totals, lanes)


def _variants(net: Network, quantizable: bool, cuttable: bool, rng: np.random.Generator) -> list[_Variant]:
    whole = tuple(net.lowering.float_format for _ in net.blocks)
    kinds = [whole]
    if quantizable:
        kinds.append(_uniform(net, forms.INT8))
        if any(forms.CORE in f for f in net.int8_nodes):
            kinds.append(_uniform(net, forms.CORE))
    kinds = list(dict.fromkeys(kinds))
    widths = [net.sizes, *(_random_widths(net, rng) for _ in range(RANDOM_VARIANTS))]
    if not (cuttable and len(net.sizes)):
        widths = widths[:1]
    many = [k for k in kinds if k != whole] or kinds
    variants = [_Variant(w, k, False) for i, w in enumerate(widths) for k in kinds if k in many or i <= FLOAT_VARIANTS]
    if len(kinds) > 1:
        for _ in range(MIXED_VARIANTS):
            mixed = tuple(str(rng.choice(list(f))) for f in net.int8_nodes)
            variants.append(_Variant(net.sizes, mixed, True))
    return variants


def _uniform(net: Network, fmt: Format) -> tuple[Format, ...]:
    """Every block in this format, or in the nearest format that it has."""
    floating = net.lowering.float_format
    return tuple(
        fmt if fmt in f else (forms.INT8 if fmt == forms.CORE and b.weighted and forms.INT8 in f else floating)
        for b, f in zip(net.blocks, net.int8_nodes, strict=True)
    )


def _random_widths(net: Network, rng: np.random.Generator) -> Widths:
    widths = []
    for g, step in zip(net.analysis.groups, net.steps, strict=True):
        levels = np.arange(step, g.size + 1, step)
        levels = levels[levels >= g.size * 0.2]
        widths.append(int(rng.choice(levels)) if len(levels) else g.size)
    return np.array(widths, dtype=np.int64)


def _works(net: Network, v: _Variant) -> dict[int, str]:
    """Block -> cache key of its work."""
    nodes = {str(n.name): n for n in net.model.graph}
    works = {}
    neighbours = hashlib.sha256(" ".join(v.formats).encode()).hexdigest()[:16]
    for b, block in enumerate(net.blocks):
        what = describe([nodes[n] for n in block.nodes], net.geometries[b], v.widths, net.sizes)
        # With neighbours in other formats a block has another latency: such times are not shared.
        works[b] = f"{v.formats[b]}, form {net.lowering.form}|{what}|among {neighbours}"
    return works


def _whole(works: Mapping[int, str]) -> str:
    return "whole|" + "\n".join(works.values())


def _measure_variant(
    net: Network,
    v: _Variant,
    works: Mapping[int, str],
    ranges: Mapping[str, tuple[float, float]],
    tracer: Tracer,
) -> dict[str, float]:
    model = lowered(net, v.widths, v.formats, ranges)
    block_of = {name: b for b, block in enumerate(net.blocks) for name in block.nodes}
    traced = tracer(model, block_of, SECONDS_PER_VARIANT)
    times: dict[str, list[float]] = {}
    for b, work in works.items():
        times.setdefault(work, []).append(traced.block_us.get(b, 0.0))
    return {w: float(np.mean(t)) for w, t in times.items()} | {_whole(works): traced.total_us}


def lowered(
    net: Network, widths: Widths, formats: Sequence[Format], ranges: Mapping[str, tuple[float, float]]
) -> ir.Model:
    """The network at these widths and formats, for timing only: any units and ranges will do."""
    cut = lowest_units(net.analysis.groups, widths)
    model = prune_channels(net.model, net.analysis, cut) if cut else net.model
    model = factored_for_timing(model, net.blocks, formats)
    int8 = int8_nodes_in(model, net.int8_nodes, formats)
    inner = dict.fromkeys(net.lowering.values_to_quantize(model, int8), INNER_RANGE) if int8 else {}
    return net.lowering.lowered(model, int8, inner | dict(ranges))


def observed_ranges(net: Network, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, tuple[float, float]]:
    """Extremes on one input of every value that some format quantizes: plausible ranges for timing."""
    every = {n for f in net.int8_nodes for n in f.get(forms.INT8, ())}
    cores = {n for f in net.int8_nodes for n in f.get(forms.CORE, ())}
    values = net.lowering.values_to_quantize
    names = {*values(net.model, every), *values(net.model, cores)}
    names |= {str(o.name) for n in net.model.graph if n.name in every for o in n.outputs}
    return extremes(IntermediateOutputs(net.model, sorted(names)), [feeds]) if names else {}


def _fit(
    net: Network,
    samples: Mapping[Format, Sequence[tuple[int, NDArray[np.float64], float]]],
    totals: Sequence[tuple[_Variant, float]],
    lanes: int,
) -> LatencyModel:
    theta: dict[Format, NDArray[np.float64]] = {}
    for fmt, rows in samples.items():
        table = np.full((len(net.blocks), len(FEATURES)), np.nan)
        for b in {b for b, _, _ in rows}:
            mine = _nonzero([(x, us) for i, x, us in rows if i == b])
            table[b] = fit_theta(np.stack([x for x, _ in mine]), np.array([us for _, us in mine]))
        theta[fmt] = table
    for b, available in enumerate(net.int8_nodes):
        for fmt in theta:
            if fmt not in available:
                theta[fmt][b] = np.nan
    model = LatencyModel(net.geometries, net.edges, net.sizes, lanes, theta, (0.0, 0.0))
    model = replace(model, switch_us=_fit_switch(model, totals))
    errors = [abs(model.total_us(v.widths, v.formats) / us - 1) for v, us in totals]
    return replace(model, error=float(np.median(errors)))


def _nonzero(samples: list[_Sample]) -> list[_Sample]:
    """The samples in which the block took time, if it took some in most.

    In the others another kernel computed it, or it only renamed a tensor. The error is relative, so one such sample
    would outweigh all others. A block that takes no time in most networks is priced at nearly nothing.
    """
    timed = [(x, us) for x, us in samples if us > 0]
    return timed if 2 * len(timed) >= len(samples) else [(x, max(us, _NOTHING_US)) for x, us in samples]


def _fit_switch(model: LatencyModel, totals: Sequence[tuple[_Variant, float]]) -> tuple[float, float]:
    """Fit the latency of mixed networks beyond the sum of their blocks to the tensors that are converted."""
    from scipy.optimize import nnls

    rows, rest = [], []
    for v, us in totals:
        if v.mixed:
            counted = replace(model, switch_us=(1.0, 0.0)), replace(model, switch_us=(0.0, 1.0))
            ends = [(e, v.formats[e.writer], v.formats[e.reader]) for e in model.edges]
            rows.append([sum(m.edge_us(*end, v.widths) for end in ends) for m in counted])
            rest.append(us - model.total_us(v.widths, v.formats))
    if not rows:
        return (0.0, 0.0)
    scale = np.maximum(np.max(rows, axis=0), 1e-9)
    solution, _ = nnls(np.array(rows) / scale, np.array(rest))
    return float(solution[0] / scale[0]), float(solution[1] / scale[1])
