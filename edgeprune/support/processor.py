"""This processor: its name, under which a measured profile is cached, and the instructions its latency depends on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgeprune.support.plural import plural

# The extensions by which onnxruntime selects its kernels, as Linux spells them: dot products (vnni, asimddp, i8mm),
# matrix tiles (amx, sme), half precision and vector width.
_KERNEL_FEATURES = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)


@dataclass(frozen=True)
class Cpu:
    """A processor: its name, the cores this process may use, and the extensions that select inference kernels."""

    name: str
    cores: int
    features: tuple[str, ...]

    def __str__(self) -> str:
        features = [" ".join(self.features)] if self.features else []
        return ", ".join((self.name, plural(self.cores, "core"), *features))


@cache
def this_cpu() -> Cpu:
    """The processor that runs this process."""
    facts = _linux_facts()
    name = facts.get("model name") or facts.get("Model") or _macos_name() or platform.processor() or platform.machine()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return Cpu(" ".join(name.split()), available_cores(), kernel_features(flags))


def kernel_features(flags: Collection[str]) -> tuple[str, ...]:
    """The flags by which onnxruntime selects its kernels."""
    return tuple(f for f in _KERNEL_FEATURES if f in flags)


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _linux_facts() -> dict[str, str]:
    """The entries of the first processor and of the board in /proc/cpuinfo; empty on other systems."""
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return {}
    facts: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    return facts


def _macos_name() -> str | None:
    if sys.platform != "darwin":
        return None
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def vector_lanes(features: Collection[str]) -> int:
    """Channels in one step of onnxruntime's blocked convolution: float32 values in a vector register."""
    return 16 if "avx512f" in features else 8 if "avx" in features else 4


def int8_weight_bits(features: Collection[str]) -> int:
    """Bits of INT8 weights: 7 on an x86 processor without dot-product instructions, else 8.

    Such a processor adds pairs of uint8 x int8 products in 16 bits, which saturates with 8-bit weights.
    """
    on_x86 = "avx" in features
    has_dot_products = bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(features))
    return 7 if on_x86 and not has_dot_products else 8
