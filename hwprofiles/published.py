"""Published latencies and the kernels of their models: the data to which the cost model is fitted."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgeprune.costmodel import Kernel, kernels_of
from edgeprune.devices import Device, Precision, load_profile
from edgeprune.errors import UsageError

Counted = tuple[tuple[Kernel, int], ...]
"""Distinct kernels of a model, and how often each occurs."""

NMS = "+nms"
"""Ending of a model's name with EfficientNMS behind it: 80 classes, the boxes of strides 8, 16 and 32."""
_CLASSES = 80
_BOXES_PER_PIXEL = 1 / 8**2 + 1 / 16**2 + 1 / 32**2

_NAMES = frozenset({"anchor", "nodes", "input", "output", "reads", "writes"})
_SIZES = tuple(f.name for f in fields(Kernel) if f.name not in _NAMES)


@dataclass(frozen=True)
class Row:
    """One published latency: of a whole batch, in milliseconds.

    ``kernels`` names the model in ``kernels.json.gz``. ``gpu_mhz`` and ``dram_gb_per_s`` are 0 if they are those of the
    power mode. ``harness`` is the program that measured, see :data:`edgeprune.hwprofiles.fitting.HARNESSES`. ``unused``
    is the reason why the row is not fitted, or empty.
    """

    model: str
    kernels: str
    batch: int
    precision: Precision
    target: str
    power_mode: str
    gpu_mhz: float
    dram_gb_per_s: float
    latency_ms: float
    harness: str
    tier: str
    conditions: str
    source: str
    unused: str

    @property
    def architecture(self) -> str:
        """The model's name without its image size: all sizes are left out together."""
        return self.kernels.removesuffix(NMS).rpartition("_")[0]

    def device(self) -> Device:
        """The device with the clocks of the row."""
        device = load_profile(self.target).device(self.power_mode)
        return replace(
            device,
            clock_mhz=self.gpu_mhz or device.clock_mhz,
            dram_gb_per_s=self.dram_gb_per_s or device.dram_gb_per_s,
        )


def read_rows(path: Path) -> list[Row]:
    """Rows of ``published.csv``."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(record) for record in csv.DictReader(file)]


def _row(record: dict[str, str]) -> Row:
    numbers = {name: float(record[name] or 0) for name in ("gpu_mhz", "dram_gb_per_s", "latency_ms")}
    texts: dict[str, Any] = {f.name: record[f.name] for f in fields(Row)}
    return Row(**{**texts, **numbers, "batch": int(record["batch"])})


class Kernels(dict[str, Counted]):
    """Model -> its kernels, without names.

    A model at another image size has the stored kernels with their positions scaled by its area: exact for networks of
    convolutions, in which every position is a pixel. The ending ``+nms`` adds EfficientNMS.
    """

    def __missing__(self, model: str) -> Counted:
        """Kernels of a model that is not stored itself.

        Raises:
            KeyError: no image size of the model is stored.
        """
        if model.endswith(NMS):
            plain = model.removesuffix(NMS)
            found = (*self[plain], (_nms(int(plain.rpartition("_")[2])), 1))
        else:
            name, _, size = model.rpartition("_")
            stored = next((m for m in self if m.rpartition("_")[0] == name), None)
            if stored is None:
                raise KeyError(model)
            area = (int(size) / int(stored.rpartition("_")[2])) ** 2
            found = tuple((_scaled(kernel, area), count) for kernel, count in self[stored])
        self[model] = found
        return found


def _nms(size: int) -> Kernel:
    boxes = round(size**2 * _BOXES_PER_PIXEL)
    wide = {"groups": 1, "rows": boxes, "cin": _CLASSES + 4, "cout": 4, "taps": 1, "weighted": False}
    return _nameless({"kind": "nms", **wide, "read_positions": float(boxes), "write_positions": 100.0})


def _scaled(k: Kernel, area: float) -> Kernel:
    if k.kind == "attention":
        raise ValueError("the kernels of an attention do not scale with the area")
    positions = {name: getattr(k, name) * area for name in ("read_positions", "write_positions", "side_elements")}
    return replace(k, rows=max(1, round(k.rows * area)), **positions)


def read_kernels(path: Path) -> Kernels:
    """Model -> its kernels, without names."""
    document = _document(path)
    names = document["fields"]
    return Kernels(
        {
            model: tuple((_nameless(dict(zip(names, sizes, strict=True))), count) for *sizes, count in kernels)
            for model, kernels in document["models"].items()
        }
    )


def _document(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return dict(json.load(file))


def _nameless(sizes: dict[str, Any]) -> Kernel:
    return Kernel(anchor="", nodes=(), input="", output="", **sizes)


def counted(kernels: tuple[Kernel, ...]) -> Counted:
    """Distinct kernels and how often each occurs."""
    return tuple(Counter(_nameless({name: getattr(k, name) for name in _SIZES}) for k in kernels).items())


def write_kernels(folder: Path, path: Path) -> None:
    """Derive the kernels of every ``<name>.onnx`` in a folder; the stored kernels of other models are kept.

    Raises:
        UsageError: the folder has no model.
    """
    from edgeprune import graph
    from edgeprune.passes.canonicalize import canonicalize

    models = {}
    for file in sorted(folder.glob("*.onnx")):
        kernels = kernels_of(canonicalize(graph.load(file), verify=False))
        models[file.stem] = [[*(getattr(k, n) for n in _SIZES), count] for k, count in counted(kernels)]
    if not models:
        raise UsageError(f"no .onnx file in {folder}")
    stored = _document(path)["models"] if path.exists() else {}
    write_table({**stored, **models}, path)


def write_table(models: dict[str, list[list[object]]], path: Path) -> None:
    """Store kernels; the same kernels give the same bytes."""
    text = json.dumps({"fields": list(_SIZES), "models": models}, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
