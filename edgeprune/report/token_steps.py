"""Which tokens leave a transformer, for report.json and plan.json. The dataclasses are the format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenLeave:
    """A place where tokens leave.

    Attributes:
        site: the value at which they leave.
        node: the sum that computes it.
        tokens: how many arrive.
        leave: how many leave.
    """

    site: str
    node: str
    tokens: int
    leave: int


@dataclass(frozen=True)
class Tokens:
    """What was decided on tokens.

    Attributes:
        setting: how tokens are matched, and whether they are merged or dropped; ``none`` if all stay.
        steps: where tokens leave, in the order of the graph; empty if all stay.
        reason: why, in a sentence.
        error: output error of the tokens alone, as the losses of widths and formats; None if all stay.
        time_share: time of the unpruned network with fewer tokens over that with all of them; the least one that was
            found if all stay, None if none was tried.
    """

    setting: str
    steps: tuple[TokenLeave, ...] = ()
    reason: str = ""
    error: float | None = None
    time_share: float | None = None
