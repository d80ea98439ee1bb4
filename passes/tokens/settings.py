"""The ways in which tokens may leave, as named settings of one choice.

Most match tokens by the cosine similarity of their features. The tokens that may leave are divided: every ``stride``-th
stays, and is a possible partner. Each of the others finds its most similar partner, and those with the most similar
partners leave. They are either merged into the partner or dropped.

* ``tome``: half of the tokens are partners; a token that leaves is merged into its partner as the mean over the patches
  that both stand for, and attention counts a token once for each of its patches (Bolya et al. 2023, "Token Merging").
* ``saint``: as ``tome``, but a token that leaves is dropped (similarity-aware pruning). It needs fewer kernels.
* ``dart``: few tokens, the pivots, are partners, so more tokens can leave at once; those that duplicate a pivot most
  are dropped (duplication-aware reduction). The pivots are evenly spaced instead of chosen by the norm of their keys.
* ``bavit``: no partners; the tokens of the background are dropped (background-aware pruning). They are those least like
  the class token, or, where there is none, those most like the mean of all tokens: no head is trained to tell them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenSetting:
    """How tokens are matched, and what becomes of those that leave.

    Attributes:
        name: of the setting.
        stride: every ``stride``-th token is a partner.
        merges: whether a token that leaves is merged into its partner; if not, it is dropped.
        background: whether tokens of the background leave, instead of similar ones; there are no partners then.
    """

    name: str
    stride: int
    merges: bool
    background: bool = False

    def partners(self, tokens: int, protected: int) -> NDArray[np.int64]:
        """Positions of the partners among all tokens, ascending."""
        if self.background:
            return np.empty(0, np.int64)
        return np.arange(protected + self.stride - 1, tokens, self.stride, dtype=np.int64)

    def others(self, tokens: int, protected: int) -> NDArray[np.int64]:
        """Positions of the tokens that may leave, ascending."""
        return np.setdiff1d(np.arange(protected, tokens, dtype=np.int64), self.partners(tokens, protected))

    def most(self, tokens: int, protected: int) -> int:
        """How many tokens may leave in one step; 0 if there is no partner."""
        if self.background:
            return max(tokens - protected - 1, 0)
        return len(self.others(tokens, protected)) if len(self.partners(tokens, protected)) else 0


SETTINGS = {
    setting.name: setting
    for setting in (
        TokenSetting("tome", 2, True),
        TokenSetting("saint", 2, False),
        TokenSetting("dart", 8, False),
        TokenSetting("bavit", 1, False, background=True),
    )
}
"""The settings by name."""


@dataclass(frozen=True)
class TokenStep:
    """One step of a schedule: at the value ``site``, ``leave`` tokens leave."""

    site: str
    leave: int
