"""How strongly views differ from the images: as much as the student bears.

A student that was fitted on a few images may be nearly right on such images, and far off on strong views. It then
learns views at the cost of images. So views are weakened until its error on them is like that on images it never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgeprune.distill.augment import Views

Tensor = Any
STRENGTHS = 1.0, 0.5, 0.25, 0.125
BEARABLE = 2.5
"""Largest error on views, as a multiple of the error on held-out images.

Views of images that a compile has chosen its weights by are harder than new images even where they are as likely. At
the start a YOLOv8n with a quarter of its multiply-accumulates has 1.3 times the error on views of full strength, and a
ResNet-18 that a compile made 17 times as fast 13 times: trained on these for 300 steps, its error on new images rose by
12%. Flips alone have 2.3 times the error there.
"""
SEEN = 128
"""Held-out images whose views are compared with them."""
DECIDING_VIEWS = 3
"""Views of each held-out image that decide as well: a compile has chosen its weights by some of the images."""
DECIDING_BYTES = 512 << 20
"""Most memory for these views and the teacher's outputs of them; beyond it, only some held-out images have views."""


def matched(views: Views, error: Callable[[Views], float], held_out: float) -> tuple[Views, float]:
    """The strongest views that the student bears, or the weakest ones, and their strength.

    Args:
        views: the strongest that are allowed.
        error: the student's error on such views of held-out images.
        held_out: its error on these images.
    """
    most = BEARABLE * held_out
    if error(views) <= most:
        return views, 1.0
    if views.flip and error(Views(plain=0.0, flip=1.0, resized=0.0, colour=0.0, mixed=0.0)) > most:
        views = replace(views, flip=0.0)
        strengths: Sequence[float] = STRENGTHS
    else:
        strengths = STRENGTHS[1:]  # full strength was tried
    for strength in strengths[:-1]:
        if error(views.scaled(strength)) <= most:
            return views.scaled(strength), strength
    return views.scaled(strengths[-1]), strengths[-1]


def those_with_views(
    held_out: Mapping[str, Tensor], parts: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]
) -> dict[str, Tensor]:
    """The held-out images whose views decide, too: the first ones, as many as `DECIDING_BYTES` allow.

    Args:
        held_out: the images, shape (images, ...).
        parts: the same in pieces, with the teacher's outputs of each.
    """
    size = sum(x.numel() * x.element_size() for part in parts for values in part for x in values.values())
    count = len(next(iter(held_out.values())))
    most = max(1, DECIDING_BYTES * count // max(1, DECIDING_VIEWS * size))
    return {name: x[:most] for name, x in held_out.items()}
