"""Several processes, as ``torchrun`` starts them: each has a part of every batch, and gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

Tensor = Any


@dataclass(frozen=True)
class Workers:
    """This process and the others."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over all processes."""
        if self.count == 1:
            return
        parts = list(tensors)
        flat = torch.cat([t.reshape(-1) for t in parts])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        start = 0
        for tensor in parts:
            tensor.copy_(flat[start : start + tensor.numel()].reshape(tensor.shape))
            start += tensor.numel()

    def largest(self, number: float) -> float:
        """The largest of a number over all processes."""
        if self.count == 1:
            return number
        tensor = torch.tensor([number], dtype=torch.float64)
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
        return float(tensor)


def join_workers(device: str) -> Workers:
    """This process among those that ``torchrun`` started; alone if it did not."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Workers()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    return Workers(torch.distributed.get_rank(), count)
