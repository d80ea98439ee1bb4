"""The results of a fit: tables for the terminal, and fields of the profiles."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.costmodel import family_of, latencies_us, with_batch
from edgeprune.devices import load_profile
from edgeprune.hwprofiles.fitting import NAMES, OF_THE_HARNESS, Problem, Quality, quality, with_parameters
from edgeprune.hwprofiles.published import NMS, Counted, Row

Floats = NDArray[np.float64]

_ENOUGH_MODELS = 10
"""A device with rows of fewer models does not claim a smaller error than its whole family."""

_FITTED = ("concat_launches", "matmul_efficiency", "image_copies", "nms_cycles")
"""Fitted fields that a profile may lack: then the term is not priced."""

_MODEL_OUT = "absolute relative error on published latencies, every model left out of the fit once"
_DEVICE_OUT = "absolute relative error on published latencies, every device left out of the fit once"


def print_family(
    family: str,
    names: Sequence[str],
    rows: Sequence[Row],
    kernels: Mapping[str, Counted],
    values: Floats,
    left_out: tuple[Floats, Floats],
    *,
    each_row: bool,
) -> None:
    """Print parameters and errors of a family of devices.

    ``left_out``: predictions of the used rows, in order, by fits without their model, and without their device.
    """
    held_out, device_out = left_out
    used = [r for r in rows if not r.unused]
    print(f"\n== {family}: {', '.join(names)}")
    print("   " + "  ".join(f"{n} {v:.4g}" for n, v in zip(NAMES, np.exp(values), strict=True)))
    if not used:
        print("   no published row: the parameters are the medians of the prior")
        return
    fitted = Problem(used, kernels).predict_ms(values)
    groups: dict[str, Callable[[Row], str]] = {
        "all": lambda r: "",
        "device": lambda r: f"{r.target} {r.power_mode}",
        "family": lambda r: family_of(kernels[r.kernels]),
        "precision": lambda r: r.precision,
        "harness": lambda r: r.harness,
        "size": lambda r: r.kernels.removesuffix(NMS).rpartition("_")[2],
        "model": lambda r: r.architecture,
    }
    print(f"   median / 90th percentile of the error {'':17s} rows       fitted  model left out device left out")
    for title, key in groups.items():
        for value in sorted({key(r) for r in used}):
            inside = [i for i, r in enumerate(used) if key(r) == value]
            own = [used[i] for i in inside]
            errors = [quality(own, p[inside]) for p in (fitted, held_out, device_out)]
            figures = "  ".join(f"{q.median:6.1%}/{q.p90:6.1%}" for q in errors)
            print(f"     {title:9s} {value:40s} {len(own):4d}  {figures}")
    unused = [r for r in rows if r.unused]
    for reason in sorted({r.unused for r in unused}):
        apart = [r for r in unused if r.unused == reason]
        print(f"   not fitted: {reason:50s} {quality(apart, Problem(apart, kernels).predict_ms(values))}")
    if each_row:
        others = Problem(unused, kernels).predict_ms(values) if unused else np.zeros(0)
        for r, p in [*zip(used, held_out, strict=True), *zip(unused, others, strict=True)]:
            where = f"{r.target} {r.power_mode}" + (f" {r.gpu_mhz:g} MHz" if r.gpu_mhz else "")
            line = f"{r.model:22s} b{r.batch:<3d} {r.precision} {where:28s} {r.latency_ms:9.3f} {p:9.3f}"
            print(f"     {line} {p / r.latency_ms - 1:+7.1%}  {r.tier} {r.unused}")


def store(
    folder: Path,
    names: Sequence[str],
    used: Sequence[Row],
    kernels: Mapping[str, Counted],
    values: Floats,
    held_out: Floats,
    device_out: Floats,
) -> None:
    """Write parameters, errors and the range of the data into the profiles of a family.

    ``held_out`` and ``device_out`` are predictions of the used rows, by fits without the rows of the same model or of
    the same device.
    """
    devices = sorted({r.target for r in used})
    for name in names:
        document = dict(load_profile(name).document)
        device = with_parameters(load_profile(name).device(), values)
        model = dict(document["cost_model"])
        for key in (*model, *(f for f in _FITTED if f not in model)):
            if key not in ("tiles", "padding"):
                number = getattr(device, key)
                model[key] = (
                    {k: _short(v) for k, v in number.items()} if isinstance(number, Mapping) else _short(number)
                )
        document["cost_model"] = model
        document.pop("error", None)
        document.pop("fitted", None)
        if used:
            document["error"] = _error(name, used, kernels, held_out, device_out)
            gmacs = [sum(k.macs * n for k, n in kernels[r.kernels]) / 1e9 for r in used]
            document["fitted"] = {
                "devices": devices,
                "power_modes": sorted({r.power_mode for r in used if r.target == name}),
                "precisions": sorted({r.precision for r in used}),
                "gmacs": [_short(min(gmacs)), _short(max(gmacs))],
                "kinds": _largest_shares(used, kernels, values),
                "harness": {n: _short(float(np.exp(values[NAMES.index(n)]))) for n in OF_THE_HARNESS},
            }
        document["provenance"] = document.pop("provenance")
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _error(
    name: str, used: Sequence[Row], kernels: Mapping[str, Counted], held_out: Floats, device_out: Floats
) -> dict[str, object]:
    """The error that a profile claims.

    A device with rows of enough models claims the error of its own rows. Otherwise it claims the error of its family,
    or that of devices left out of the fit, if its median is larger.
    """
    own = [i for i, r in enumerate(used) if r.target == name]
    family = f"rows of {', '.join(sorted({r.target for r in used}))}"
    claims = {}
    if own:
        claims[f"{_MODEL_OUT}; rows of this device"] = quality([used[i] for i in own], held_out[own])
    if len({used[i].kernels for i in own}) < _ENOUGH_MODELS:
        claims[f"{_MODEL_OUT}; {family}"] = quality(used, held_out)
    if not own:
        claims[f"{_DEVICE_OUT}; {family}"] = quality(used, device_out)
    method, q = max(claims.items(), key=lambda claim: claim[1].median)
    families: dict[str, list[int]] = {}
    precisions: dict[str, list[int]] = {}
    for i, row in enumerate(used):
        families.setdefault(family_of(kernels[row.kernels]), []).append(i)
        precisions.setdefault(row.precision, []).append(i)
    return {
        "method": method,
        **_figures(q),
        "rank_correlation": _short(q.rank_correlation),
        "families": {f: _figures(quality([used[i] for i in rows], held_out[rows])) for f, rows in families.items()},
        "precisions": {p: _figures(quality([used[i] for i in rows], held_out[rows])) for p, rows in precisions.items()},
    }


def _figures(q: Quality) -> dict[str, float]:
    return {"rows": q.rows, "models": q.models, "median": _short(q.median), "p90": _short(q.p90)}


def _largest_shares(used: Sequence[Row], kernels: Mapping[str, Counted], values: Floats) -> dict[str, float]:
    """Kind of kernel -> its largest share of the time in any row."""
    largest: dict[str, float] = {}
    for row in used:
        device = with_parameters(row.device(), values)
        batched = [with_batch(k, row.batch) for k, _ in kernels[row.kernels]]
        times = latencies_us(batched, [row.precision] * len(batched), device)
        times = times * np.array([count for _, count in kernels[row.kernels]])
        for kind in {k.kind for k in batched}:
            share = sum(t for t, k in zip(times, batched, strict=True) if k.kind == kind) / times.sum()
            largest[kind] = max(largest.get(kind, 0.0), float(share))
    return {kind: _short(largest[kind]) for kind in sorted(largest)}


def _short(number: float) -> float:
    return float(f"{number:.4g}")
