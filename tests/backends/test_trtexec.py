from __future__ import annotations

import json

import pytest

from edgeprune.backends.trtexec import (
    Typing,
    Version,
    bench_arguments,
    build_arguments,
    error_in,
    graph_arguments,
    parse_version,
    profile_arguments,
    read_layers,
    read_times,
    single_command,
    typing_of,
)
from edgeprune.errors import BackendError
from edgeprune.passes.tensorrt import lower_tensorrt
from edgeprune.testing.oracle import parse
from tests.backends import fake_trtexec
from tests.passes.graphs import TRANSFORMER, build

ORIN, NEXT, OLD = Version(10, 3), Version(11), Version(8, 6, 1)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v8502", Version(8, 5, 2)),
        ("v8601", OLD),
        ("v100300", ORIN),
        ("v101303", Version(10, 13, 3)),
        ("v110000", NEXT),
    ],
)
def test_versions_are_read_from_the_banner(text: str, version: Version):
    assert parse_version(f"&&&& RUNNING TensorRT.trtexec [TensorRT {text}] [b7] # trtexec --help") == version


def test_a_banner_without_version_is_refused():
    with pytest.raises(BackendError, match="which TensorRT"):
        parse_version("usage: trtexec")


def test_each_version_gets_the_options_it_knows():
    for number, version in ((8601, OLD), (100300, ORIN), (110000, NEXT)):
        given = build_arguments(version, Typing(True, True, ("pow",), True))
        given += bench_arguments(version, duration_s=3) + profile_arguments(version)
        given += bench_arguments(version, duration_s=3, cuda_graph=True)
        assert {option.partition("=")[0] for option in given} <= fake_trtexec.KNOWN[number]
        assert "--sparsity=enable" in given
    weak = build_arguments(OLD, Typing(True, True, ("pow", "a,b", "c:d")))
    assert {"--fp16", "--int8", "--precisionConstraints=obey", "--layerPrecisions=pow:fp32"} <= set(weak)
    assert "--stronglyTyped" in build_arguments(ORIN, Typing(True, True))
    assert not set(build_arguments(NEXT, Typing(True, True))) & {"--fp16", "--int8", "--stronglyTyped"}
    assert "--fp16" not in build_arguments(OLD, Typing(False, True))


@pytest.mark.parametrize("number", [8601, 100300, 110000])
def test_times_of_every_version_are_read(number: int):
    blocks = read_times(fake_trtexec.times(number, 20).encode())
    assert len(blocks) == 4
    assert [*blocks[0], *blocks[1]][:6] == pytest.approx([0.25, 0.26, 0.27, 0.28, 0.29, 0.25], abs=1e-12)


@pytest.mark.parametrize("number", [8601, 100300, 110000])
def test_kernels_of_every_version_are_read(number: int):
    information = fake_trtexec.layer_information(number).encode()
    layers = read_layers(fake_trtexec.profile().encode(), information)
    assert layers[0].name == "conv1 + relu1"
    assert layers[0].median_us == pytest.approx(30.0)
    assert layers[0].kind == "CaskConvolution"
    assert layers[0].types == ("Half",)
    assert layers[2].kind == ""  # without detailed verbosity a layer is its name


def test_profiles_without_medians_fall_back_to_averages():
    profile = json.dumps([{"count": 3}, {"name": "a", "timeMs": 3.0, "averageMs": 1.0, "percentage": 100}])
    assert read_layers(profile.encode(), None)[0].median_us == 1000.0


@pytest.mark.parametrize("text", [None, b"", b"not json", b'[{"latencyMs": 1}]', b"{}x"])
def test_files_of_another_form_are_refused(text: bytes | None):
    with pytest.raises(BackendError, match="--exportTimes"):
        read_times(text)


def test_the_first_error_is_the_reason():
    log = "[11/22/2026-10:00:00] [I] ok\n[11/22/2026-10:00:00] [E] [TRT] ModelImporter: bad node.\n[E] Engine failed\n"
    assert error_in(log) == "ModelImporter: bad node"
    assert error_in("") == "it printed nothing"


def test_weakly_typed_builders_are_told_what_must_stay_float32():
    model = build(TRANSFORMER)
    lowered = lower_tensorrt(model, {str(n.name): "fp16" for n in model.graph}, {}, target_versions=["8.6"])
    typing = typing_of(lowered)
    assert typing.fp16
    assert not typing.int8
    assert {"square", "variance", "padded"} <= set(typing.keep_fp32)
    assert typing_of(model).keep_fp32 == ()


def test_the_command_for_the_user_builds_and_times():
    assert single_command(ORIN, Typing(fp16=True, int8=True)) == [
        *("trtexec", "--onnx=model.onnx", "--saveEngine=model.engine", "--profilingVerbosity=detailed"),
        *("--stronglyTyped", "--duration=10", "--warmUp=500", "--useSpinWait", "--noDataTransfers"),
        "--exportTimes=times.json",
    ]


def test_engines_are_measured_as_the_profiles_were_fitted_unless_a_cuda_graph_is_asked_for() -> None:
    """Before TensorRT 11 each kernel is launched by default; from 11 on a CUDA graph is."""
    for version, launched, replayed in ((ORIN, [], ["--useCudaGraph"]), (NEXT, ["--noCudaGraph"], [])):
        for cuda_graph, wanted in ((False, launched), (True, replayed)):
            given = bench_arguments(version, duration_s=3, cuda_graph=cuda_graph)
            assert [a for a in given if a in ("--useCudaGraph", "--noCudaGraph")] == wanted
            assert graph_arguments(version, cuda_graph) == wanted


def test_an_island_of_float32_stays_in_float32_and_a_part_of_an_int8_layer_does_not() -> None:
    model = parse(
        """
        g (float[1, 32, 8, 8] x) => (float[1, 32, 8, 8] y) {
          c = Conv(x, w)
          r = Relu(c)
          a = Sigmoid(r)
          b = Mul(a, a)
          d = Tanh(b)
          y = Sigmoid(d)
        }""",
        w=(32, 32, 1, 1),
    )
    names = {n.op_type: str(n.name) for n in model.graph}
    wanted = {str(n.name): "fp16" for n in model.graph} | {names["Conv"]: "int8", names["Mul"]: "fp32"}
    ranges = {"x": (-2.0, 2.0)} | {str(o.name): (-2.0, 2.0) for n in model.graph for o in n.outputs}
    lowered = lower_tensorrt(model, wanted, ranges, target_versions=["8.5"])
    assert set(typing_of(lowered).keep_fp32) & {str(n.name) for n in model.graph} == {names["Mul"]}
