"""Why launches of a network that was to run in INT8 stay in float: one sentence for the one who asked for it."""

from __future__ import annotations

from collections.abc import Collection

from edgeprune.latency import INT8, AnalyticModel, Latency, dense_format, is_int8
from edgeprune.search.solver import Candidate


def stays_float(candidate: Candidate, latency: Latency, launches: AnalyticModel, source: str) -> str | None:
    """The sentence, or None where everything runs in INT8.

    Args:
        candidate: widths and formats that were chosen.
        latency: what they were chosen by.
        launches: of the network.
        source: of the times, ``measured`` or ``analytic``.
    """
    left = [b for b, f in enumerate(candidate.formats) if not is_int8(f)]
    if not left:
        return None
    possible = [b for b in left if INT8 in latency.formats(b)]
    now_us = latency.total_us(candidate.widths, candidate.formats)
    slower = [b for b in possible if latency.total_us(candidate.widths, _in_int8(candidate, [b])) >= now_us]
    formless = len(left) - len(possible)
    reasons = [f"{formless} {'has' if formless == 1 else 'have'} no INT8 form"] if formless else []
    if slower:
        reasons.append(_slower(candidate, latency, launches, slower, source))
    if len(possible) > len(slower):
        reasons.append(f"{len(possible) - len(slower)} would cost accuracy")
    stay = f"{len(left)} {'stays' if len(left) == 1 else 'stay'} in {dense_format(candidate.formats[left[0]])}"
    return f"INT8 was asked for, and of {len(candidate.formats)} launches {stay}: {'; '.join(reasons)}"


def _slower(
    candidate: Candidate, latency: Latency, launches: AnalyticModel, blocks: Collection[int], source: str
) -> str:
    float_us = sum(latency.block_us(b, candidate.formats[b], candidate.widths) for b in blocks)
    ratio = sum(latency.block_us(b, INT8, candidate.widths) for b in blocks) / float_us
    word = f"{'is' if len(blocks) == 1 else 'are'} {'measured' if source == 'measured' else 'predicted'}"
    if ratio < 1:
        return f"{len(blocks)} {word} to gain less than converting what they share with others costs"
    text = f"{len(blocks)} {word} to take {ratio:.2f}x as long in INT8"
    if source == "measured" or not any(launches.kernel(b, candidate.widths).kind == "matmul" for b in blocks):
        return text
    return (
        f"{text}, since what a transformer computes between its products is float and each operand takes a launch to "
        "quantize; edgeprune profile --device lets the device decide that"
    )


def _in_int8(candidate: Candidate, blocks: Collection[int]) -> tuple[str, ...]:
    return tuple(INT8 if b in blocks else f for b, f in enumerate(candidate.formats))
