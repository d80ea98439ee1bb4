"""What a fit says: tables for people, and the fields of the profiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.hwprofiles.fit import NAMES, Problem, quality, with_parameters
from edgeprune.hwprofiles.published import Counted, Row
from edgeprune.targets import load_profile

Floats = NDArray[np.float64]

METHOD = "absolute relative error on published latencies, every model left out of the fit once"


def print_family(
    family: str,
    names: Sequence[str],
    rows: Sequence[Row],
    kernels: Mapping[str, Counted],
    values: Floats,
    held_out: Floats,
    *,
    each_row: bool,
) -> None:
    """Print parameters and errors of a family; ``held_out`` are predictions of the rows that are used, in order."""
    used = [r for r in rows if not r.unused]
    print(f"\n== {family}: {', '.join(names)}")
    print("   " + "  ".join(f"{n} {v:.4g}" for n, v in zip(NAMES, np.exp(values), strict=True)))
    if not used:
        print("   no published row: parameters are the prior's")
        return
    print(f"   fitted          {quality(used, Problem(used, kernels).predict_ms(values))}")
    print(f"   model left out  {quality(used, held_out)}")
    groups = {
        "tier": lambda r: r.tier,
        "target": lambda r: r.target,
        "precision": lambda r: r.precision,
        "model": lambda r: r.model,
    }
    for title, key in groups.items():
        for value in sorted({key(r) for r in used}):
            inside = [i for i, r in enumerate(used) if key(r) == value]
            print(f"     {title:9s} {value:26s} {quality([used[i] for i in inside], held_out[inside])}")
    unused = [r for r in rows if r.unused]
    for reason in sorted({r.unused for r in unused}):
        apart = [r for r in unused if r.unused == reason]
        print(f"   not fitted: {reason:50s} {quality(apart, Problem(apart, kernels).predict_ms(values))}")
    if each_row:
        aside = Problem(unused, kernels).predict_ms(values) if unused else np.zeros(0)
        for r, p in [*zip(used, held_out, strict=True), *zip(unused, aside, strict=True)]:
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
) -> None:
    """Write parameters, errors and what was fitted into the profiles of a family.

    A device with rows of its own carries their error; another carries its family's.
    """
    devices = sorted({r.target for r in used})
    for name in names:
        document = dict(load_profile(name).document)
        device = with_parameters(load_profile(name).device(), values)
        model = dict(document["cost_model"])
        for key in model:
            if key not in ("tiles", "padding"):
                number = getattr(device, key)
                model[key] = (
                    {k: _short(v) for k, v in number.items()} if isinstance(number, Mapping) else _short(number)
                )
        document["cost_model"] = model
        document.pop("error", None)
        document.pop("fitted", None)
        if used:
            own = [i for i, r in enumerate(used) if r.target == name]
            chosen = own if len(own) >= 10 else list(range(len(used)))
            q = quality([used[i] for i in chosen], held_out[chosen])
            which = "of this device" if chosen is own else f"of {', '.join(devices)}"
            document["error"] = {
                "method": f"{METHOD}; rows {which}",
                "rows": q.rows,
                "models": q.models,
                "median": _short(q.median),
                "p90": _short(q.p90),
                "rank_correlation": _short(q.rank_correlation),
            }
            gmacs = [sum(k.macs * n for k, n in kernels[r.kernels]) / 1e9 for r in used]
            document["fitted"] = {
                "devices": devices,
                "power_modes": sorted({r.power_mode for r in used if r.target == name}),
                "precisions": sorted({r.precision for r in used}),
                "gmacs": [_short(min(gmacs)), _short(max(gmacs))],
                "kinds": sorted({k.kind for r in used for k, _ in kernels[r.kernels]}),
            }
        document["provenance"] = document.pop("provenance")
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _short(number: float) -> float:
    return float(f"{number:.4g}")
