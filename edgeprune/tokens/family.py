"""The schedules that are tried: one step after some blocks, or two, by every setting.

A step costs about ten kernels, so a few steps with many tokens are worth more than many with few: at batch 1 a kernel
takes a GPU longer than what a token less in every layer saves.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgeprune.passes.tokens import SETTINGS, Site, TokenSetting
from edgeprune.tokens.schedule import TokenSchedule

PLACES = (1 / 6, 1 / 3, 1 / 2, 2 / 3)
"""Single steps are tried where this share of the attentions is done."""
PAIR = (1 / 6, 1 / 2)
"""The places of two steps."""
LEAST = 0.1
"""A step with a smaller share of the tokens is not worth its kernels."""
SHARES = {"tome": (0.25, 0.5), "saint": (0.25, 0.5), "dart": (0.7,), "bavit": (0.25, 0.5)}
"""Which share of the tokens leaves in a single step; the shares of two steps are the smaller ones."""


def schedules(sites: Sequence[Site], settings: Collection[str], *, multiple: int = 1) -> list[TokenSchedule]:
    """Schedules of a few steps, without duplicates.

    Args:
        sites: of the model, in the order of the graph.
        settings: names of settings that may be used.
        multiple: the tokens that stay, with the protected ones, are a multiple of this where that costs less than half
            of those that leave.
    """
    found: dict[TokenSchedule, None] = {}
    firsts = _first_of_each_depth(sites)
    for name in (name for name in SETTINGS if name in settings):
        setting, shares = SETTINGS[name], SHARES[name]
        for place in PLACES:
            for share in shares:
                found.setdefault(_schedule(setting, [_at(firsts, place)], share, multiple))
        pair = list(dict.fromkeys(_at(firsts, place) for place in PAIR))
        if len(pair) > 1:
            found.setdefault(_schedule(setting, pair, shares[0], multiple))
    return [schedule for schedule in found if schedule.sites]


def _first_of_each_depth(sites: Sequence[Site]) -> list[Site]:
    """The first site in front of each number of attentions."""
    found: dict[int, Site] = {}
    for site in sites:
        found.setdefault(site.attentions, site)
    return list(found.values())


def _at(firsts: Sequence[Site], place: float) -> Site:
    """The site where about this share of the attentions is done."""
    return firsts[min(int(place * len(firsts)), len(firsts) - 1)]


def _schedule(setting: TokenSetting, sites: Sequence[Site], share: float, multiple: int) -> TokenSchedule:
    """A schedule in which this share of the tokens leaves at each of the sites; without sites if none can leave."""
    count, chosen, leaving = sites[0].tokens, [], []
    for site in sites:
        most = setting.most(count, site.protected)
        leave = min(round(share * (count - site.protected)), most)
        fewer = leave - -(count - leave) % multiple  # then the number that stays is a multiple
        leave = fewer if 2 * fewer > leave else leave
        if leave >= LEAST * count:
            chosen.append(site)
            leaving.append(leave)
            count -= leave
    return TokenSchedule(setting.name, tuple(chosen), tuple(leaving))
