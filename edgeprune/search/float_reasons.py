"""Why kernels stay in float although the user asked for INT8: one sentence for the report."""

from __future__ import annotations

from collections.abc import Collection

from edgeprune.latency import INT8, AnalyticModel, Latency, dense_format, is_int8
from edgeprune.search.solver import Candidate


def stays_float(candidate: Candidate, latency: Latency, kernels: AnalyticModel, source: str) -> str | None:
    """The sentence, or None if all kernels run in INT8.

    Args:
        candidate: the widths and formats.
        latency: the latency model that they were chosen by.
        kernels: the kernels of the network.
        source: of the latencies, ``measured`` or ``analytic``.
    """
    times = [latency.block_us(b, f, candidate.widths) for b, f in enumerate(candidate.formats)]
    left = [b for b, f in enumerate(candidate.formats) if not is_int8(f) and times[b] > 0]  # the others were dropped
    if not left:
        return None
    possible = [b for b in left if INT8 in latency.formats(b)]
    now_us = latency.total_us(candidate.widths, candidate.formats)
    slower = [b for b in possible if latency.total_us(candidate.widths, _in_int8(candidate, [b])) >= now_us]
    formless = len(left) - len(possible)
    reasons = [f"{formless} {'has' if formless == 1 else 'have'} no INT8 form"] if formless else []
    if slower:
        reasons.append(_slower(candidate, latency, kernels, slower, source))
    if len(possible) > len(slower):
        reasons.append(f"{len(possible) - len(slower)} would cost accuracy")
    stay = f"{'stays' if len(left) == 1 else 'stay'} in {dense_format(candidate.formats[left[0]])}"
    return f"INT8 was asked for, but {len(left)} of {len(candidate.formats)} kernels {stay}: {'; '.join(reasons)}"


def _slower(
    candidate: Candidate, latency: Latency, kernels: AnalyticModel, blocks: Collection[int], source: str
) -> str:
    float_us = sum(latency.block_us(b, candidate.formats[b], candidate.widths) for b in blocks)
    ratio = sum(latency.block_us(b, INT8, candidate.widths) for b in blocks) / float_us
    start = f"{len(blocks)} {'is' if len(blocks) == 1 else 'are'} {'measured' if source == 'measured' else 'predicted'}"
    if ratio < 1:
        return f"{start} to gain less in INT8 than the added conversions cost"
    text = f"{start} to need {ratio:.2f}x the time in INT8"
    if source == "measured" or not any(kernels.kernel(b, candidate.widths).kind == "matmul" for b in blocks):
        return text
    return (
        f"{text}, because a transformer computes in float between its MatMuls, and each operand needs a kernel to "
        "quantize it; edgeprune profile --device measures this on the device"
    )


def _in_int8(candidate: Candidate, blocks: Collection[int]) -> tuple[str, ...]:
    return tuple(INT8 if b in blocks else f for b, f in enumerate(candidate.formats))
