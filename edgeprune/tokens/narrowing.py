"""Narrower residual streams of a transformer: a choice beside the token schedules, by the same time and error."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgeprune import graph
from edgeprune.calibration import COVARIANCES, ArrayCache, Arrays, Calibration
from edgeprune.dependency import OpenedModel, analyse
from edgeprune.errors import PassError
from edgeprune.passes.rank import Directions, Embedding, embedding_of, narrow_embedding, stream_directions
from edgeprune.recovery import Probe
from edgeprune.support import Progress
from edgeprune.tokens.trials import PAYS, TokenTrial, frontier

ALLOWED_EMBEDDINGS = ("auto", "none")
"""The values of ``--embedding``."""
SHARES = (7 / 8, 3 / 4, 5 / 8, 1 / 2, 3 / 8)
"""Widths that are tried, as shares of the present one."""
STEP = 16
"""Widths are multiples of this."""


@dataclass(frozen=True)
class Narrowing:
    """How many channels of the residual stream stay."""

    channels: int
    kept: int

    def __str__(self) -> str:
        return f"{self.kept} of {self.channels} channels of the residual stream"


def narrowings(channels: int) -> list[Narrowing]:
    """The widths that are tried, the largest first."""
    kept = dict.fromkeys(round(share * channels / STEP) * STEP for share in SHARES)
    return [Narrowing(channels, k) for k in kept if STEP <= k < channels]


def narrowed(opened: OpenedModel, embedding: Embedding, found: Directions, kept: int) -> OpenedModel:
    """The opened model with so many channels in its residual stream.

    Raises:
        PassError: a node states the width and cannot be repaired.
    """
    dense = narrow_embedding(opened.dense, embedding, found, kept)
    fixed = graph.infer_shapes(graph.clone(dense), opened.sizes.shapes)
    return replace(opened, dense=dense, fixed=fixed, analysis=analyse(fixed if opened.at_sizes else dense))


def try_narrowings(
    opened: OpenedModel,
    embedding: Embedding,
    data: Calibration,
    macs: int,
    threads: int,
    shares: Callable[[Sequence[ir.Model], Sequence[Narrowing]], Sequence[float]],
    error: Callable[[ir.Model], float],
    progress: Callable[[float], None],
    remember: Callable[[Callable[[], Arrays]], Arrays] = lambda compute: compute(),
) -> list[TokenTrial]:
    """Try narrower streams; those that save too little time are not run on samples.

    Args:
        opened: the model.
        embedding: its residual stream.
        data: samples.
        macs: multiply-accumulates of the model.
        threads: of onnxruntime.
        shares: the times of models with fixed shapes and these streams, over that of the whole one.
        error: the output error of a model.
        progress: called with the fraction done.
        remember: gives the stored results of these trials, or computes and stores them.

    Returns:
        The trials of which none is both slower and worse than another, the fastest first.
    """
    wanted = narrowings(embedding.group.size)
    found = stream_directions(opened.dense, embedding, data.subset(COVARIANCES.of(macs)), threads)
    progress(1 / 3)

    def compute() -> Arrays:
        times, errors = np.full(len(wanted), np.nan), np.full(len(wanted), np.nan)
        made: dict[int, OpenedModel] = {}
        for k, one in enumerate(wanted):
            with contextlib.suppress(PassError):
                made[k] = narrowed(opened, embedding, found, one.kept)
        times[list(made)] = shares([m.fixed for m in made.values()], [wanted[k] for k in made])
        for done, k in enumerate(np.flatnonzero(times <= PAYS).tolist(), 1):
            errors[k] = error(made[k].dense)
            progress((1 + 2 * done / len(wanted)) / 3)
        return {"times": times, "errors": errors}

    known = remember(compute)
    times, errors = known["times"], known["errors"]
    return [
        TokenTrial(wanted[k], narrowed(opened, embedding, found, wanted[k].kept), float(times[k]), float(errors[k]))
        for k in frontier(times, errors)
    ]


def stream_trials(
    opened: OpenedModel,
    data: Calibration,
    macs: int,
    threads: int,
    items: Callable[[int], int],
    shares: Callable[[Sequence[ir.Model], Sequence[Narrowing]], Sequence[float]],
    timed_by: Sequence[str],
    cache: ArrayCache,
    progress: Progress,
) -> list[TokenTrial]:
    """The narrower streams of a model that pay, as by `try_narrowings`; none if its stream must stay as it is.

    Args:
        opened: the model.
        data: samples.
        macs: multiply-accumulates of the model.
        threads: of onnxruntime.
        items: number of trials -> on how many samples each is run.
        shares: as in `try_narrowings`.
        timed_by: everything that these shares depend on, besides the model.
        cache: of earlier trials.
        progress: shows the step.
    """
    embedding = _embedding(opened, data)
    if embedding is None:
        return []
    with progress.step("trying narrower residual streams") as step:
        count = items(len(narrowings(embedding.group.size)))
        probe = functools.cache(lambda: Probe(opened.dense, data, count, threads))
        settings = {"items": count, "timed": list(timed_by)}
        return try_narrowings(
            opened,
            embedding,
            data,
            macs,
            threads,
            shares,
            lambda model: probe().error(model),
            step.fraction,
            lambda compute: cache.arrays("stream trials", settings, compute),
        )


def streams_to_try(opened: OpenedModel, data: Calibration) -> int:
    """How many narrower streams `stream_trials` tries."""
    embedding = _embedding(opened, data)
    return 0 if embedding is None else len(narrowings(embedding.group.size))


def _embedding(opened: OpenedModel, data: Calibration) -> Embedding | None:
    """The residual stream, if narrower ones are tried: with trained ranges or random samples none is."""
    found = None if opened.ranges or data.is_random else embedding_of(opened.dense)
    return found if isinstance(found, Embedding) and narrowings(found.group.size) else None


def units_of(opened: OpenedModel) -> list[tuple[str, int]]:
    """Id and size of every group: if they are the same, units and widths need not be scored again."""
    return [(group.id, group.size) for group in opened.analysis.groups]
