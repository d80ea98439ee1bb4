"""``edgeprune profile --device``: build and time a few networks of a model on a device, and store the measurements.

The networks are the original model, and then in every format the dense one, a 2:4 one if the device supports 2:4
sparsity, and two with random aligned widths. Each measurement is stored at once. A run that was interrupted, or that
reached its time limit, continues where it stopped.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeprune.backends import Device, DeviceResult, open_device
from edgeprune.build import SPARSE_STEPS, TensorRtBuilder, formats_of, sparse_fits, versions_of
from edgeprune.calibration import CalibrationSpec
from edgeprune.compiler.opening import for_tensorrt, open_shapes
from edgeprune.dependency import OpenedModel, Shapes, Widths, open_model
from edgeprune.devices import Profile, load_profile
from edgeprune.errors import UsageError
from edgeprune.graph import save
from edgeprune.latency import (
    NAME,
    ORIGINAL,
    SPARSE,
    DeviceProfile,
    GpuNetwork,
    MeasuredNetwork,
    formats_like,
    gpu_network,
    input_shapes,
    launch_times,
    probe_file,
    probe_network,
    profile_file,
)
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.prune import try_cut
from edgeprune.support import Progress, write_text

RANDOM_WIDTHS = 2
"""Number of networks with random aligned widths in every format; they fit the heights of the stairs."""

NARROWEST = 0.25
SECONDS = 2.0
MINUTES = 30.0
"""After this many minutes no other network is started."""

SAMPLES = 2


@dataclass(frozen=True, eq=False)
class _Variant:
    """A network to measure: widths of shape (groups,), and a format."""

    widths: Widths
    format: str


def profile_on_device(
    model: Path | None,
    target: str,
    address: str,
    *,
    shapes: Shapes | None = None,
    minutes: float = MINUTES,
    seed: int = 0,
    progress: Progress | None = None,
    device: Device | None = None,
) -> DeviceProfile:
    """Measure a model on a device with TensorRT; earlier measurements are not repeated.

    Args:
        model: the ONNX file; without one, the built-in network, whose measurements scale the predictions of all models.
        target: name of the device.
        address: ``local``, or ``ssh://user@host[:port]``.
        shapes: input name -> dimensions, for inputs with dynamic dimensions.
        minutes: time limit; no other network is started after it.
        seed: of the random widths; another seed adds networks.
        progress: shows the progress.
        device: an opened device, instead of the one at the address.

    Returns:
        All measurements so far; they are complete unless the time limit was reached.

    Raises:
        UsageError: the address is not valid, or an input has dynamic dimensions.
        TargetError: the target's TensorRT is too old.
        ModelError: the model is invalid or cannot be lowered.
        BackendError: the device cannot be reached, or does not accept a network.
    """
    progress = progress or Progress()
    profile = load_profile(target)
    board = device or open_device(address, "tensorrt")
    versions_of(profile)
    opened = _probe_model(progress) if model is None else open_model(model, shapes or {}, progress, trial=try_cut)
    opened = for_tensorrt(opened)
    gpu = _describe(opened, profile)
    file = probe_file(profile.name) if model is None else profile_file(opened, profile.name)
    found = _start(opened, profile, file)
    builder = _builder(opened, gpu, profile)
    variants = list(_variants(gpu, seed))
    began = time.monotonic()
    for number, variant in enumerate(variants):
        if _has(found, gpu, variant):
            continue
        if time.monotonic() - began > 60 * minutes:
            progress.note(f"{number} of {len(variants)} networks are measured; run the command again for the others")
            return found
        with progress.step(f"measuring network {number + 1} of {len(variants)}"):
            result = _measure(opened, gpu, builder, variant, board)
        found = _with(found, gpu, variant, result)
        _keep(found, file)
    found = replace(found, complete=True)
    _keep(found, file)
    return found


def _probe_model(progress: Progress) -> OpenedModel:
    """The built-in network, opened from a file."""
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        file = Path(folder) / f"{NAME}.onnx"
        save(probe_network(), file)
        return open_model(file, {}, progress)


def _describe(opened: OpenedModel, profile: Profile) -> GpuNetwork:
    fixed = canonicalize(opened.fixed, verify=False)
    formats = formats_of("auto", profile)
    sparse = sparse_fits(fixed, min(SPARSE_STEPS.values())) if profile.has_sparse_products else ()
    step = profile.channel_step(formats[-1])
    return gpu_network(fixed, opened.analysis, profile.device(), formats, step=step, error=0.0, sparse=sparse)


def _builder(opened: OpenedModel, gpu: GpuNetwork, profile: Profile) -> TensorRtBuilder:
    data = CalibrationSpec("random", limit=SAMPLES).open(opened.fixed)
    floating = formats_of("auto", profile)[0]
    whole = TensorRtBuilder(opened.dense, gpu.network, {}, data, float_format=floating, versions=versions_of(profile))
    return whole.for_timing(data)


def _variants(gpu: GpuNetwork, seed: int) -> Iterator[_Variant]:
    sizes = gpu.latency.sizes
    formats = list(dict.fromkeys(f for forms in gpu.network.int8_nodes for f in forms))
    dense = [f for f in formats if not f.endswith(SPARSE)]
    random = np.random.default_rng(seed)
    yield _Variant(sizes, ORIGINAL)
    yield from (_Variant(sizes, f) for f in dense)
    cuttable = any(len(levels) > 1 for levels in gpu.levels)
    for widths in (_random_widths(gpu, random) for _ in range(RANDOM_WIDTHS if cuttable else 0)):
        yield from (_Variant(widths, f) for f in dense)
    yield from (_Variant(sizes, f) for f in formats if f.endswith(SPARSE))


def _random_widths(gpu: GpuNetwork, random: np.random.Generator) -> Widths:
    widths = np.array([int(random.choice(v[v >= NARROWEST * v[-1]])) for v in gpu.levels], dtype=np.int64)
    for first, *others in gpu.tied:
        level = int(np.searchsorted(gpu.levels[first], widths[first]))
        widths[others] = [gpu.levels[g][level] for g in others]
    return widths


def _start(opened: OpenedModel, profile: Profile, file: Path) -> DeviceProfile:
    """The stored profile of the model on the target, or an empty one."""
    if file.is_file():
        try:
            return DeviceProfile.load(file)
        except UsageError:  # it was written by another version: measure again
            pass
    return DeviceProfile(
        target=profile.name,
        model=opened.path.name,
        model_sha256=opened.sha256,
        shapes=input_shapes(opened),
        device="",
        clocks="",
        versions={},
    )


def _measure(
    opened: OpenedModel, gpu: GpuNetwork, builder: TensorRtBuilder, variant: _Variant, device: Device
) -> DeviceResult:
    formats = formats_like(gpu, variant.format)
    model = opened.original if formats is None else builder.build(variant.widths, formats)
    return device.measure({variant.format: model}, seconds=SECONDS, shapes=open_shapes(opened))[variant.format]


def _with(found: DeviceProfile, gpu: GpuNetwork, variant: _Variant, result: DeviceResult) -> DeviceProfile:
    """The profile with one more network; measurements of another device or runtime are dropped."""
    same = (found.device, found.versions) == (result.device, dict(result.versions))
    networks = found.networks if same else ()
    entry = MeasuredNetwork(
        widths=_cut_widths(gpu, variant.widths),
        format=variant.format,
        latency_us=result.latency.median_ms * 1e3,
        runs=result.latency.runs,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        launch_us=_launch_us(gpu, variant, result),
    )
    return replace(
        found,
        device=result.device,
        clocks=result.clocks,
        versions=dict(result.versions),
        networks=(*networks, entry),
        complete=False,
        ratios=_ratios(gpu, (*networks, entry)),
    )


def _ratios(gpu: GpuNetwork, networks: Sequence[MeasuredNetwork]) -> dict[str, float]:
    """Measured over analytic time of all kernels of one kind and format together."""
    ids = [g.id for g in gpu.network.analysis.groups]
    sums: dict[str, list[float]] = {}
    for n in networks:
        formats = formats_like(gpu, n.format)
        if formats is None or not n.launch_us:
            continue
        widths = np.array([n.widths.get(g, size) for g, size in zip(ids, gpu.latency.sizes, strict=True)])
        for b, (block, fmt) in enumerate(zip(gpu.network.blocks, formats, strict=True)):
            kind = gpu.latency.kernel(b, gpu.latency.sizes).kind
            measured, expected = sums.setdefault(f"{kind} {fmt}", [0.0, 0.0])
            us = n.launch_us[block.anchor]
            sums[f"{kind} {fmt}"] = [measured + us, expected + gpu.latency.block_us(b, fmt, widths)]
    return {key: measured / expected for key, (measured, expected) in sums.items() if expected > 0}


def _launch_us(gpu: GpuNetwork, variant: _Variant, result: DeviceResult) -> Mapping[str, float]:
    if variant.format == ORIGINAL or not result.layers:
        return {}
    formats = formats_like(gpu, variant.format)
    assert formats is not None
    blocks = gpu.network.blocks
    expected = [gpu.latency.block_us(b, f, variant.widths) for b, f in enumerate(formats)]
    total_us = result.latency.median_ms * 1e3
    times, _ = launch_times(result.layers, [b.nodes for b in blocks], expected, total_us)
    return {block.anchor: us for block, us in zip(blocks, times, strict=True)}


def _cut_widths(gpu: GpuNetwork, widths: Widths) -> dict[str, int]:
    groups = gpu.network.analysis.groups
    return {g.id: int(w) for g, w in zip(groups, widths, strict=True) if w < g.size}


def _has(found: DeviceProfile, gpu: GpuNetwork, variant: _Variant) -> bool:
    wanted = (_cut_widths(gpu, variant.widths), variant.format)
    return any((dict(n.widths), n.format) == wanted for n in found.networks)


def _keep(found: DeviceProfile, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the cache folder {str(file.parent)!r} cannot be written: {error.strerror}") from error
    write_text(file, found.to_json())
