"""Checkpoints: a training that was interrupted goes on where the last one was written."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from edgeprune.distill.settings import Settings
from edgeprune.support import output_file


def fingerprint(settings: Settings, files: Mapping[str, Path], data: str) -> str:
    """What a checkpoint belongs to: settings, models and data."""
    digest = hashlib.sha256(json.dumps([asdict(settings), data], sort_keys=True, default=str).encode())
    for file in files.values():
        digest.update(file.read_bytes())
    return digest.hexdigest()


def save_checkpoint(file: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    with output_file(file, force=True) as fresh:
        torch.save(dict(state), fresh)


def load_checkpoint(file: Path, belongs_to: str) -> dict[str, Any] | None:
    """The checkpoint of a file; None if there is none, or it belongs to something else or is damaged."""
    if not file.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
        return None
    return state if state.get("belongs_to") == belongs_to else None
