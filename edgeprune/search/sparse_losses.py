"""The loss of 2:4 weights at the output of the network, per block, measured on a few unlabelled samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeprune import graph
from edgeprune.build import SPARSE_STEPS, TensorRtBuilder, sparse_fits
from edgeprune.calibration import FORMAT_SPLITS, Calibration, prices_of
from edgeprune.graph import find_linears
from edgeprune.latency import Format, Network
from edgeprune.passes.prune import sparsify
from edgeprune.recovery import Probe
from edgeprune.search.sensitivity import format_losses

_SPARSE: Format = "2:4"


def sparse_losses(
    network: Network, builder: TensorRtBuilder, data: Calibration, blocks: Sequence[int]
) -> dict[int, float]:
    """Block -> loss of 2:4 weights in it, unitless, as given by `edgeprune.recovery.output_error`.

    The weights of all blocks are made 2:4 once. A trial puts some of them into the dense network. As in the delivered
    network, the largest weights stay if the data is random.
    """
    if not blocks:
        return {}
    dense = builder.dense
    fits = sparse_fits(dense, min(SPARSE_STEPS.values()))
    nodes = {b: [n for n in network.blocks[b].nodes if n in fits] for b in blocks}
    every = sorted(n for names in nodes.values() for n in names)
    if data.is_random:
        sparse = sparsify(dense, every, None, method="magnitude", threads=builder.threads)
    else:
        sparse = sparsify(dense, every, data, refined=False, threads=builder.threads)
    linears = find_linears(dense)
    items = min(prices_of(data.outputs).of(network.macs), data.items)
    probe = Probe(dense, data, items, builder.threads)

    # Trials leave out a bias that was added to a layer, so they slightly overestimate the loss.
    def trial(chosen: Mapping[int, Format]) -> float:
        model = graph.clone(dense)
        for b in chosen:
            for layer in (linears[n] for n in nodes[b]):
                for name in {layer.weight, layer.bias.value} & set(model.graph.initializers):
                    model.graph.initializers[name].const_value = sparse.graph.initializers[name].const_value
        return probe.error(model)

    twins = [found for blocks in network.twins if len(found := [b for b in blocks if b in nodes]) > 1]
    available = [("dense", _SPARSE) if b in nodes else ("dense",) for b in range(len(network.blocks))]
    splits = FORMAT_SPLITS.of(2 * items * network.macs)
    losses = format_losses(available, "dense", trial, twins=twins, splits=splits)
    return {b: losses[b][_SPARSE] for b in nodes}
