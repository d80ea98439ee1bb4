"""The request for a compile, which is checked before any work is done."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

from edgeprune.backends import LOCAL
from edgeprune.build import Options, check_sparsity, versions_of
from edgeprune.calibration import CalibrationSpec, check_evaluation_is_there, check_statistics_device
from edgeprune.devices import AUTO, Profile, Runtime, load_profile
from edgeprune.errors import CalibrationError, UsageError
from edgeprune.executor import require_torch
from edgeprune.outputs import Choice
from edgeprune.ranks import ALLOWED as RANKS
from edgeprune.search import Goal
from edgeprune.support import check_output, check_temporary_room
from edgeprune.tokens import ALLOWED, ALLOWED_EMBEDDINGS

FLOATS = ("fp32", "bf16")
"""Precisions in which nothing is quantized."""

WRITTEN_MODELS, TEMPORARY_MODELS = 2, 2
"""How often the weights of a model are written: dense.onnx and model.onnx; and to temporary files for runtimes."""


@dataclass(frozen=True)
class Conditions:
    """The settings of a session, for the report: threads of onnxruntime, the seed, and the calibration data."""

    threads: int
    seed: int
    calibration: str


@dataclass(frozen=True)
class Request:
    """A model, a target, and how the model may be compiled for it; see the arguments of `compile_model`."""

    model: Path
    target: str
    calibration: CalibrationSpec | None
    evaluation: str | None = None
    precision: str = "auto"
    sparsity: str = "auto"
    power_mode: str | None = None
    device: str | tuple[str, ...] | None = None
    profile_file: Path | None = None
    surgery: str | None = None
    threads: int = 1
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    seed: int = 0
    accept_loss: bool = False
    explain_loss: bool = False
    choice: Choice = field(default_factory=Choice)
    runtime: str | None = None
    tokens: str = "auto"
    rank: str = "auto"
    embedding: str = "auto"
    recover: str = "fast"
    stats_device: str = "cpu"
    all_int8: bool = False
    builds: int = 1
    timing_cache: Path | None = None
    tune_placement: float | None = None

    def check_room(self, out: Path, *, force: bool) -> None:
        """Refuse an output folder that cannot be written, and disks that are too full for the work.

        Raises:
            UsageError: naming the folder, and the flag or variable that names another.
        """
        model_bytes = sum(file.stat().st_size for file in self.model.parent.glob(f"{escape(self.model.name)}*"))
        check_output(out, force=force, needs_bytes=WRITTEN_MODELS * model_bytes)
        check_temporary_room(TEMPORARY_MODELS * model_bytes)

    @property
    def profile(self) -> Profile:
        """The profile of the target.

        Raises:
            TargetError: there is no such target.
        """
        return load_profile(self.target)

    @property
    def runs_on(self) -> Runtime:
        """The runtime of the result; for ``auto`` the default one, until the faster one is known.

        Raises:
            UsageError: the target has no such runtime.
        """
        return self.profile.runtime(None if self.runtime == AUTO else self.runtime)

    @property
    def options(self) -> Options:
        """How the model may be compiled for a GPU."""
        mode, file = self.power_mode, self.profile_file
        return Options(self.precision, self.sparsity, mode, file, self.rank, self.tune_placement)

    @property
    def training_minutes(self) -> float | None:
        """How long the result is trained; None if it is not.

        Raises:
            UsageError: ``--recover`` is neither a word that it knows nor a number.
        """
        if self.recover in ("none", "fast"):
            return None
        try:
            minutes = float(self.recover)
        except ValueError:
            minutes = math.nan
        if not 0 < minutes < math.inf:
            raise UsageError(f"--recover {self.recover}: expected none, fast, or the minutes of a training, as in 10")
        return minutes

    def goal(
        self,
        latency_ms: float | None,
        speedup: float | None,
        max_drop: float | None,
        *,
        max_energy_mj: float | None = None,
        max_memory_mb: float | None = None,
        p99_ms: float | None = None,
    ) -> Goal:
        """The goal that the flags give.

        Raises:
            UsageError: they contradict each other.
        """
        if latency_ms is not None and speedup is not None:
            raise UsageError(
                "--latency-ms and --speedup both limit the latency: give one of them; --max-drop may stand beside it"
            )
        if self.all_int8 and (self.precision != "int8" or not latency_ms is speedup is max_drop is None):
            raise UsageError("--all-int8 goes with --precision int8 and without a budget: all layers that can get INT8")
        limited = not max_energy_mj is max_memory_mb is p99_ms is None
        if max_energy_mj is not None and (self.runs_on.on_cpu or self.profile.energy is None):
            raise UsageError(
                f"--max-energy-mj: the energy of an inference is not predicted for {self.profile.name}: no power of it "
                "was published"
            )
        only_lowered = self.precision != "auto" and not limited and latency_ms is speedup is max_drop is None
        return Goal(
            latency_ms,
            speedup,
            max_drop,
            prune=not only_lowered,
            quantize=self.precision not in FLOATS,
            accept_loss=self.accept_loss,
            explain_loss=self.explain_loss,
            all_int8=self.all_int8,
            max_energy_mj=max_energy_mj,
            max_memory_mb=max_memory_mb,
            p99_ms=p99_ms,
        )

    def check(self) -> None:
        """Refuse flags that contradict each other or the target.

        Raises:
            UsageError: naming the flag.
            CalibrationError: there is no calibration data.
            TargetError: the target has no such power mode, or its TensorRT is too old.
            BackendError: PyTorch is needed and not installed, or finds no GPU.
        """
        if self.calibration is None:
            raise CalibrationError("compile needs calibration data to search, refit and quantize: give --calib")
        self.calibration.check_there()
        check_evaluation_is_there(self.evaluation)
        profile, runtime = self.profile, self.runs_on
        if self.precision not in ("auto", "fp32", "bf16", "fp16", "int8"):
            raise UsageError(f"--precision {self.precision!r}: expected auto, fp32, bf16, fp16 or int8")
        if self.precision != "auto" and self.precision not in profile.precisions:
            has = ", ".join(profile.precisions)
            raise UsageError(f"target {profile.name} has no {self.precision}; it has {has}")
        if self.precision != "auto" and self.precision not in runtime.precisions:
            has = ", ".join(runtime.precisions)
            raise UsageError(f"{runtime.name} has no {self.precision} on target {profile.name}; it has {has}")
        if self.device not in (None, LOCAL) and self.runtime is not None and not runtime.over_ssh:
            raise UsageError(f"{runtime.name} is measured in this process only: leave --device out")
        if runtime.on_cpu and isinstance(self.device, tuple):
            raise UsageError("compile for a CPU measures on one --device; bench and gate take several")
        if (self.builds > 1 or self.timing_cache is not None) and (runtime.on_cpu or self.device is None):
            raise UsageError("--builds and --timing-cache are for engines of TensorRT on an attached --device")
        if self.tune_placement is not None and (runtime.on_cpu or self.device is None):
            raise UsageError("--tune-placement measures engines of TensorRT on an attached --device")
        if self.tune_placement is not None and self.precision not in ("auto", "int8"):
            raise UsageError(f"--tune-placement decides where INT8 is used: leave out --precision {self.precision}")
        if self.sparsity not in ("auto", "none", "2:4"):
            raise UsageError(f"--sparsity {self.sparsity!r}: expected auto, none or 2:4")
        if self.training_minutes is not None:
            require_torch(f"--recover {self.recover}")
        check_statistics_device(self.stats_device)
        if self.tokens not in ALLOWED:
            raise UsageError(f"--tokens {self.tokens!r}: expected {', '.join(ALLOWED[:-1])} or {ALLOWED[-1]}")
        if self.rank not in RANKS:
            raise UsageError(f"--rank {self.rank!r}: expected {' or '.join(RANKS)}")
        if self.embedding not in ALLOWED_EMBEDDINGS:
            raise UsageError(f"--embedding {self.embedding!r}: expected {' or '.join(ALLOWED_EMBEDDINGS)}")
        if self.sparsity == "2:4" and not runtime.sparse:
            raise UsageError(f"target cpu gains nothing from 2:4 sparsity: {runtime.name} has no sparse kernels")
        if not runtime.edits and (self.surgery is not None or self.profile_file is not None):
            raise UsageError("--surgery and --profile are for targets with TensorRT, not for cpu")
        if not runtime.on_cpu:
            check_sparsity(self.sparsity, self.precision, profile)
            versions_of(profile)
        if not runtime.on_cpu or self.power_mode is not None:
            profile.power_mode(self.power_mode)
        if self.calibration is None:
            raise CalibrationError("compile needs calibration data to search, refit and quantize: give --calib")
