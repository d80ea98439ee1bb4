"""Map the latencies of an engine's layers to the blocks of a network.

TensorRT's fusion may differ: one engine layer may cover several blocks, and one block several layers. A layer's latency
is divided among the blocks whose nodes it names, in proportion to their expected latencies. A region that names only
its first and last node covers all nodes between them that no other layer names. A layer that names no node (a reformat
of an input, for example) belongs to the inference as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from edgeprune.backends import LayerTime

_REGION = re.compile(r"ForeignNode\[(.+?)\.\.\.(.+?)\]")


def launch_times(
    layers: Sequence[LayerTime], blocks: Sequence[Sequence[str]], expected_us: Sequence[float], total_us: float
) -> tuple[list[float], float]:
    """Latency of every block, and of the layers that belong to no block, microseconds.

    Args:
        layers: the engine's layers, timed with a profiler that adds the same overhead to each.
        blocks: names of the nodes of every block, in graph order.
        expected_us: expected latency of every block.
        total_us: latency of an inference without the profiler: all latencies add up to this.

    Returns:
        Latencies of shape (blocks,), 0 for a block that no layer names; and the rest.
    """
    home = {name: i for i, names in enumerate(blocks) for name in names}
    named = [_named(layer, home) for layer in layers]
    covered = {i for mine in named for i in mine}
    overhead_us = max(0.0, (sum(x.median_us for x in layers) - total_us) / max(1, len(layers)))
    times, rest = [0.0] * len(blocks), 0.0
    for layer, mine in zip(layers, named, strict=True):
        us = max(layer.median_us - overhead_us, 0.05 * layer.median_us)
        mine = mine + [i for i in _between(layer, home) if i not in covered]
        weights = [expected_us[i] for i in mine]
        whole = sum(weights)
        if whole <= 0:
            rest += us
            continue
        for i, weight in zip(mine, weights, strict=True):
            times[i] += us * weight / whole
    scale = total_us / max(sum(times) + rest, 1e-9)
    return [t * scale for t in times], rest * scale


def _named(layer: LayerTime, home: Mapping[str, int]) -> list[int]:
    """Blocks whose nodes the layer names, in its metadata or else in its name."""
    nodes = layer.nodes or tuple(n for n in _words(layer.name) if n in home)
    return sorted(Counter(home[n] for n in nodes if n in home))


def _words(name: str) -> list[str]:
    """Parts of a layer's name that may be nodes: ``a + b``, ``PWN(PWN(a), b)``, ``... for Input Tensor 0 to a``."""
    return [word for word in re.split(r"\s\+\s|[(),\s\[\]{}]|\.\.\.", name) if word]


def _between(layer: LayerTime, home: Mapping[str, int]) -> list[int]:
    match = None if layer.nodes else _REGION.search(layer.name)
    if match is None or match[1] not in home or match[2] not in home:
        return []
    return list(range(home[match[1]], home[match[2]] + 1))
