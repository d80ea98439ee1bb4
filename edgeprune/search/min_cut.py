"""Labels 0 or 1 for the nodes of a graph with the least total cost: exactly, by a minimum cut.

Each label of a node has a cost, and each pair of connected nodes has a cost that depends on both labels. If unlike
labels never cost less than like ones, the best labelling is a minimum cut (Kolmogorov & Zabih 2004, "What energy
functions can be minimized via graph cuts?", theorem 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_STEPS = 10**8
"""The flow needs integer costs: they are scaled to this sum."""


def best_labels(
    own: NDArray[np.float64], pairs: Sequence[tuple[int, int]], together: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The label, 0 or 1, of every node, shape (nodes,); 0 where both are equally good.

    Args:
        own: cost of each label of each node, shape (nodes, 2).
        pairs: connected nodes; a pair may be named several times.
        together: cost of a pair by the labels of its first and its second node, shape (pairs, 2, 2). Where unlike
            labels cost less than like ones, the difference is not counted, and the result may not be the best.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    nodes = len(own)
    gain = own[:, 1] - own[:, 0]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    np.add.at(gain, first, together[:, 1, 0] - together[:, 0, 0])
    np.add.at(gain, second, together[:, 1, 1] - together[:, 1, 0])
    apart = np.maximum(together[:, 0, 1] + together[:, 1, 0] - together[:, 0, 0] - together[:, 1, 1], 0.0)
    # Nodes that reach the sink get label 1: nodes that prefer it are connected to the sink, all others to the source.
    source, sink, every = nodes, nodes + 1, np.arange(nodes)
    tails = np.concatenate([np.where(gain > 0, source, every), first])
    heads = np.concatenate([np.where(gain > 0, every, sink), second])
    costs = np.concatenate([np.abs(gain), apart])
    capacities = np.rint(costs * (_STEPS / max(float(costs.sum()), 1e-30))).astype(np.int32)
    network = csr_array((capacities, (tails, heads)), shape=(nodes + 2, nodes + 2))
    network.sum_duplicates()
    left = network - maximum_flow(network, source, sink).flow
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    labels = np.zeros(nodes + 2, dtype=np.int64)
    labels[breadth_first_order(left.T.tocsr(), sink, return_predecessors=False)] = 1
    return np.asarray(labels[:nodes])
