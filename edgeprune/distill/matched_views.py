"""How strongly views differ from the images: as much as the student bears.

A student that was fitted on a few images may be nearly right on such images, and far off on strong views. It then
learns views at the cost of images. So views are weakened until its error on them is like that on images it never saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeprune.distill.augment import Views

STRENGTHS = (1.0, 0.5, 0.25, 0.125)
BEARABLE = 2.5
"""Largest error on views, as a multiple of the error on held-out images.

Views of images that a compile has chosen its weights by are harder than new images even where they are as likely. At
the start a YOLOv8n with a quarter of its multiply-accumulates has 1.3 times the error on views of full strength, and a
ResNet-18 that a compile made 17 times as fast 13 times: trained on these for 300 steps, its error on new images rose by
12%. Flips alone have 2.3 times the error there.
"""
SEEN = 128
"""Held-out images whose views are compared with them."""


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
        strengths = STRENGTHS
    else:
        strengths = STRENGTHS[1:]  # full strength was tried
    for strength in strengths[:-1]:
        if error(views.scaled(strength)) <= most:
            return views.scaled(strength), strength
    return views.scaled(strengths[-1]), strengths[-1]
