from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeprune.backends.tensorrt import TensorRt
from edgeprune.errors import BackendError
from edgeprune.passes.prune.sparsify import sparsify
from tests.backends import fake_tensorrt
from tests.passes.graphs import RESIDUAL, build


class FakeCuda:
    """Counts what is held; no GPU."""

    def __init__(self) -> None:
        self.held, self.uploaded, self.waits = 0, 0, 0

    @contextmanager
    def memory(self, size_bytes: int) -> Iterator[int]:
        self.held += 1
        yield 1000 + size_bytes
        self.held -= 1

    @contextmanager
    def stream(self) -> Iterator[int]:
        self.held += 1
        yield 7
        self.held -= 1

    def upload(self, address: int, data: bytes) -> None:
        self.uploaded += len(data)

    def wait(self, stream: int) -> None:
        self.waits += 1


def backend(module: Any, cuda: Any = None, cache: Path | None = None) -> TensorRt:
    return TensorRt(module, cuda or FakeCuda(), cache=cache)


@pytest.mark.parametrize(("version", "flags"), [("8.6.1", 1), ("10.3.0", 2), ("11.0.0", 2)])
def test_networks_are_typed_as_the_version_can(version: str, flags: int):
    module = fake_tensorrt.make(version)
    model = build(RESIDUAL)
    engine = backend(module).build(sparsify(model, ["c1"], None, method="magnitude"))
    assert module.log[0] == ("network", flags)
    assert module.log[1] == "sparse"
    assert (engine.plan, engine.layers, engine.version) == (b"engine", 7, version)


def test_precision_flags_go_to_the_old_version_alone():
    from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
    from tests.passes.graphs import observed
    from tests.passes.tensorrt.test_lower_tensorrt import everything

    model = build(RESIDUAL)
    for version, flags in (("8.6.1", {"fp16", "int8"}), ("10.3.0", set()), ("11.0.0", set())):
        lowered = lower_tensorrt(model, everything(model, "fp16"), observed(model), target_versions=[version])
        module = fake_tensorrt.make(version)
        backend(module).build(lowered)
        assert {entry for entry in module.log if isinstance(entry, str)} == flags


def test_the_timing_cache_is_kept(tmp_path: Path):
    module = fake_tensorrt.make("10.3.0")
    for known in (b"", b"timings"):
        backend(module, cache=tmp_path / "sub" / "cache").build(build(RESIDUAL))
        assert ("timing cache", known, False) in module.log


def test_open_sizes_get_one_profile():
    module = fake_tensorrt.make("10.3.0", open_sizes=True)
    backend(module).build(build(RESIDUAL))
    assert ("shape", "x", (1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8)) in module.log


def test_refusals_are_quoted():
    with pytest.raises(BackendError, match="cannot parse the model: node 'pool_3': no importer registered"):
        backend(fake_tensorrt.make("10.3.0", parses=False)).build(build(RESIDUAL))
    with pytest.raises(BackendError, match="cannot parse the model: no importer registered"):
        backend(fake_tensorrt.make("8.6.1", parses=False)).build(build(RESIDUAL))
    with pytest.raises(BackendError, match=r"could not find any implementation for node conv_1$"):
        backend(fake_tensorrt.make("11.0.0", builds=False)).build(build(RESIDUAL))


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.0.0"])
def test_engines_run_by_tensor_names(version: str):
    module, cuda = fake_tensorrt.make(version), FakeCuda()
    with backend(module, cuda).runner(b"engine") as run:
        run()
        assert cuda.held == 3
    assert cuda.held == 0
    assert cuda.waits == 2
    assert cuda.uploaded == 4 * 3 * 8 * 8
    assert [entry[1] for entry in module.log if entry[0] == "address"] == ["x", "y"]


@pytest.mark.parametrize(
    ("types", "output_bytes", "uploaded"),
    [
        ({"x": "HALF", "y": "BOOL"}, 10, 2 * 3 * 8 * 8),
        ({"x": "INT32", "y": "INT64"}, 80, 0),
        ({"x": "UINT8", "y": "INT8"}, 10, 0),
    ],
)
def test_types_are_known_without_nptype(types: dict[str, str], output_bytes: int, uploaded: int):
    module, cuda = fake_tensorrt.make("8.5.3", types=types), FakeCuda()
    with backend(module, cuda).runner(b"engine"):
        assert ("address", "y", 1000 + output_bytes) in module.log
        assert cuda.uploaded == uploaded


def test_a_type_that_numpy_lacks_is_refused():
    module = fake_tensorrt.make("10.3.0", types={"x": "FP8", "y": "FLOAT"})
    with pytest.raises(BackendError, match="tensor 'x' has type FP8"), backend(module).runner(b"engine"):
        pass


def test_an_engine_of_another_device_is_refused():
    with (
        pytest.raises(BackendError, match="another version or for another GPU"),
        backend(fake_tensorrt.make("10.3.0")).runner(b"foreign"),
    ):
        pass


def test_only_the_rtx_builder_aims_at_another_gpu():
    from types import SimpleNamespace

    from edgeprune.backends.engine_builder import _set_capability

    with pytest.raises(BackendError, match="only for the attached GPU"):
        _set_capability(fake_tensorrt.make("10.3.0"), None, "SM86")
    with pytest.raises(BackendError, match="builds for SM80, SM86, not for SM87"):
        _set_capability(SimpleNamespace(ComputeCapability=SimpleNamespace(SM80=1, SM86=2)), None, "SM87")
