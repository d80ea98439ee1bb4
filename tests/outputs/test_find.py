"""The kind of each output, by the graph and by the values."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.outputs.find import find_outputs, outputs_of_values
from edgeprune.outputs.output_spec import Outputs
from tests.small_models import HEADER

RNG = np.random.default_rng(0)


def found(graph: str, *arrays: np.ndarray) -> Outputs:
    return find_outputs(ir.from_onnx_text(f"{HEADER}\n{graph}"), [arrays])


def kinds(outputs: Outputs) -> dict[tuple[str, ...], tuple[str, str]]:
    return {spec.names: (spec.kind, spec.metric) for spec in outputs.specs}


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return (e / e.sum(axis=axis, keepdims=True)).astype(np.float32)


def trained_logits(rows: int = 64, classes: int = 6) -> np.ndarray:
    """One class stands out, and the sum of the logits hardly varies."""
    x = RNG.standard_normal((rows, classes))
    x[np.arange(rows), RNG.integers(0, classes, rows)] += 8
    return (x - x.mean(axis=1, keepdims=True) + 0.05 * RNG.standard_normal((rows, 1))).astype(np.float32)


LINEAR = "g (float[n,8] x, float[8,k] w) => (float[n,k] {name}) {{ {name} = MatMul(x, w) }}"


def last_layer(values: np.ndarray, name: str = "y") -> tuple[str, str]:
    (kind,) = kinds(found(LINEAR.format(name=name), values.astype(np.float32))).values()
    return kind


def test_a_softmax_gives_class_scores_and_a_constant_class_is_judged_by_its_values() -> None:
    text = "g (float[n,4] x) => (float[n,4] y) { y = Softmax(x) }"
    assert kinds(found(text, softmax(4 * RNG.standard_normal((40, 4))))) == {("y",): ("class scores", "top1")}
    constant = softmax(RNG.standard_normal((40, 4)) + np.array([9, 0, 0, 0]))
    assert kinds(found(text, constant)) == {("y",): ("class scores", "sqnr")}


def test_a_softmax_behind_a_transpose_keeps_its_axis() -> None:
    text = "g (float[n,5,7] x) => (float[n,7,5] y) { s = Softmax<axis=1>(x) y = Transpose<perm=[0,2,1]>(s) }"
    (spec,) = found(text, softmax(RNG.standard_normal((3, 7, 5)))).specs
    assert (spec.kind, spec.metric, spec.axis) == ("sequence", "top1", -1)


def test_a_last_linear_layer_alone_does_not_say_class_scores() -> None:
    """The values decide: logits, boxes, angles, an embedding, landmarks; a name may say it too."""
    assert last_layer(trained_logits()) == ("class scores", "top1")
    assert last_layer(trained_logits(), "bbox") != ("class scores", "top1")
    boxes = np.sort(RNG.uniform(0, 100, (40, 2, 2)), axis=1).reshape(40, 4)
    assert last_layer(boxes) == ("boxes", "iou")
    assert last_layer(RNG.normal(0, 30, (40, 2))) == ("coordinates", "sqnr")
    assert last_layer(RNG.normal(0, 1, (40, 128)))[0] == "embedding"
    assert last_layer(RNG.normal(0, 1, (40, 136)), "landmarks") == ("coordinates", "sqnr")
    assert last_layer(RNG.normal(0, 0.1, (40, 5)), "logits") == ("class scores", "top1")
    assert last_layer(RNG.normal(0, 1, (40, 1))) == ("values", "sqnr")


def test_an_untrained_classifier_is_one_by_its_number_of_classes_unless_another_output_surely_is() -> None:
    assert last_layer(RNG.normal(0, 0.1, (40, 1000)))[0] == "class scores"
    text = "g (float[n,8] x, float[8,k] w, float[8,m] v) => (float[n,k] y, float[n,m] z) { s = MatMul(x, v) z = Softmax(s) y = MatMul(x, w) }"  # noqa: E501
    values = RNG.normal(0, 0.1, (40, 10)).astype(np.float32), softmax(4 * RNG.standard_normal((40, 2)))
    assert kinds(found(text, *values)) == {("y",): ("values", "sqnr"), ("z",): ("class scores", "top1")}


def test_vectors_of_length_one_are_embeddings() -> None:
    x = RNG.standard_normal((20, 24)).astype(np.float32)
    assert kinds(outputs_of_values([x / np.linalg.norm(x, axis=1, keepdims=True)])) == {("0",): ("embedding", "cosine")}


def test_integers_indices_and_sorted_scores() -> None:
    text = "g (float[n,9] x, int64[1] k) => (float[n,3] v, int64[n,3] i, int64[n] a) { v, i = TopK(x, k) a = ArgMax<axis=1, keepdims=0>(x) }"  # noqa: E501
    x = RNG.standard_normal((8, 9)).astype(np.float32)
    order = np.argsort(-x, axis=1)[:, :3]
    values = np.take_along_axis(x, order, axis=1)
    assert kinds(found(text, values, order, x.argmax(axis=1))) == {
        ("v",): ("sorted scores", "sqnr"),
        ("i",): ("ranking", "equal"),
        ("a",): ("integers", "equal"),
    }


def test_states_of_recurrent_networks() -> None:
    text = "g (float[t,n,4] x, float[1,12,4] w, float[1,12,3] r) => (float[t,1,n,3] y, float[1,n,3] h) { y, h = GRU<hidden_size=3>(x, w, r) }"  # noqa: E501
    y = RNG.standard_normal((5, 1, 2, 3)).astype(np.float32)
    assert kinds(found(text, y, y[-1]))[("h",)] == ("state", "sqnr")
    text = "g (float[n,4,8,8] x, float[n,4,8,8] r1i) => (float[n,4,8,8] r1o) { r1o = Add(x, r1i) }"
    assert kinds(found(text, RNG.standard_normal((2, 4, 8, 8)).astype(np.float32))) == {("r1o",): ("state", "sqnr")}


@pytest.mark.parametrize(("shape", "kind"), [((2, 4, 8, 8), "map"), ((2, 3, 8), "tensor"), ((2, 1, 8, 8), "map")])
def test_maps_and_unknown_tensors(shape: tuple[int, ...], kind: str) -> None:
    text = "g (float[n,a] x) => (float[n,a] y) { y = Relu(x) }"
    x = np.abs(RNG.standard_normal(shape)).astype(np.float32)
    assert kinds(found(text, x)) == {("y",): (kind, "sqnr")}


def test_a_map_of_probabilities_is_a_class_map() -> None:
    text = "g (float[n,3,8,8] x) => (float[n,3,8,8] y) { y = Softmax<axis=1>(x) }"
    (spec,) = found(text, softmax(RNG.standard_normal((2, 3, 8, 8)), axis=1)).specs
    assert (spec.kind, spec.metric, spec.axis) == ("class map", "top1", -3)


def yolo(samples: int = 4, classes: int = 3, positions: int = 60, extra: int = 0) -> np.ndarray:
    """Boxes as center and size, scores of which few are high, and further channels; channels first."""
    center = RNG.uniform(0, 640, (samples, 2, positions))
    size = RNG.uniform(10, 50, (samples, 2, positions))
    scores = 0.01 * RNG.random((samples, classes, positions))
    scores[:, 1, ::20] = 0.9
    more = RNG.standard_normal((samples, extra, positions))
    return np.concatenate([center, size, scores, more], axis=1).astype(np.float32)


YOLO = "g (float[n,4,p] x, float[n,c,p] s) => (float[n,k,p] y) { q = Sigmoid(s) y = Concat<axis=1>(x, q) }"


@pytest.mark.parametrize("extra", [0, 8])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_joined_head_in_both_orders_and_with_further_channels(extra: int, swapped: bool) -> None:
    x = yolo(extra=extra)
    text = YOLO
    if swapped:
        x, text = (
            x.swapaxes(1, 2),
            YOLO.replace("y = Concat<axis=1>(x, q)", "c = Concat<axis=1>(x, q) y = Transpose<perm=[0,2,1]>(c)"),
        )
    (spec,) = found(text, x).specs
    assert (spec.kind, spec.metric) == ("detections", "detections")
    assert (spec.head.scores.start, spec.head.scores.stop, spec.head.corners) == (4, 7, False)


def test_an_objectness_is_told_from_a_class() -> None:
    x = yolo(classes=4).swapaxes(1, 2).copy()
    x[:, ::20, 4] = 0.95
    x[:, :, 5:8] = np.maximum(x[:, :, 5:8], 0)
    text = YOLO.replace("y = Concat<axis=1>(x, q)", "c = Concat<axis=1>(x, q) y = Transpose<perm=[0,2,1]>(c)")
    (spec,) = found(text, x).specs
    assert spec.head.objectness is not None
    assert spec.head.scores.start == 5


def test_a_head_that_finds_nothing_is_judged_by_its_values() -> None:
    x = yolo()
    x[:, 4:] = np.minimum(x[:, 4:], 0.1)
    (spec,) = found(YOLO, x).specs
    assert (spec.kind, spec.metric) == ("detections", "sqnr")


def test_probabilities_of_characters_are_no_boxes_with_scores() -> None:
    text = """g (float[n,8,40] a, float[n,8,40] b, float[80,30] w) => (float[n,t,30] y) {
        c = Concat<axis=2>(a, b) l = MatMul(c, w) y = Softmax(l)
    }"""
    usual = np.r_[6, 2, 1, 1, np.zeros(26)]  # mostly the blank, and the first characters more often than the rest
    (spec,) = found(text, softmax(RNG.standard_normal((3, 40, 30)) + usual)).specs
    assert spec.kind == "sequence"


def test_an_end_to_end_head() -> None:
    corners = np.sort(RNG.uniform(0, 640, (2, 50, 2, 2)), axis=2).reshape(2, 50, 4)
    scores = -np.sort(-RNG.random((2, 50, 1)), axis=1)
    x = np.concatenate([corners, scores, RNG.integers(0, 80, (2, 50, 1))], axis=2).astype(np.float32)
    text = "g (float[n,p,6] x, int64[n,k,6] i) => (float[n,k,6] y) { y = GatherElements<axis=1>(x, i) }"
    (spec,) = found(text, x).specs
    assert spec.metric == "detections"
    assert spec.head.labels is not None
    assert spec.head.corners


def test_boxes_and_scores_apart_are_judged_together_and_the_background_is_no_detection() -> None:
    center = RNG.uniform(0, 1, (3, 40, 2))
    boxes = np.concatenate([center - 0.02, center + 0.02], axis=2).astype(np.float32)
    scores = softmax(np.stack([np.where(np.arange(40) % 10 == 0, -5, 5), np.zeros(40)], axis=1)[None].repeat(3, axis=0))
    text = "g (float[n,40,4] x, float[n,40,2] s) => (float[n,40,2] scores, float[n,40,4] boxes) { scores = Softmax(s) boxes = Identity(x) }"  # noqa: E501
    (spec,) = found(text, scores, boxes).specs
    assert set(spec.names) == {"boxes", "scores"}
    assert (spec.metric, spec.head.background, spec.head.corners) == ("detections", 0, True)


def test_distances_to_the_sides_of_a_cell_are_no_boxes() -> None:
    distances = RNG.uniform(0, 8, (3, 400, 4)).astype(np.float32)
    scores = (0.01 * RNG.random((3, 400, 1))).astype(np.float32)
    text = "g (float[n,400,4] x, float[n,400,1] s) => (float[n,400,1] score_8, float[n,400,4] bbox_8) { score_8 = Sigmoid(s) bbox_8 = Identity(x) }"  # noqa: E501
    assert not any(spec.kind == "detections" for spec in found(text, scores, distances).specs)


@pytest.mark.parametrize(("rows", "columns"), [(20, 20), (1, 400), (400, 1)])
def test_boxes_on_a_grid_are_offsets_and_in_a_list_are_boxes(rows: int, columns: int) -> None:
    """As the first stage of MTCNN from Keras, with the channels last."""
    center = RNG.uniform(0, 1, (3, rows, columns, 2))
    boxes = np.concatenate([center - 0.02, center + 0.02], axis=-1).astype(np.float32)
    scores = softmax(RNG.standard_normal((3, rows * columns, 2)))
    text = "g (float[n,a,b,4] x, float[n,k,2] s) => (float[n,k,2] prob, float[n,a,b,4] reg) { prob = Softmax(s) reg = Identity(x) }"  # noqa: E501
    if min(rows, columns) > 1:
        assert kinds(found(text, scores, boxes)) == {("prob",): ("sequence", "top1"), ("reg",): ("map", "sqnr")}
    else:
        (spec,) = found(text, scores, boxes).specs
        assert spec.kind == "detections"


def test_integers_that_are_classes_of_pixels_or_steps() -> None:
    maps = "g (float[n,4,8,8] x) => (int64[n,8,8] y) { y = ArgMax<axis=1, keepdims=0>(x) }"
    assert kinds(found(maps, RNG.integers(0, 4, (6, 8, 8)))) == {("y",): ("class map", "equal")}
    steps = "g (float[n,9,4] x) => (int64[n,9] y) { y = ArgMax<axis=2, keepdims=0>(x) }"
    assert kinds(found(steps, RNG.integers(0, 4, (6, 9)))) == {("y",): ("sequence", "equal")}
    assert kinds(found("g (int64[n,9] x) => (int64[n,9] y) { y = Identity(x) }", RNG.integers(0, 99, (6, 9)))) == {
        ("y",): ("integers", "equal")
    }


def test_logits_of_points_without_a_softmax() -> None:
    """Segmentation of a point cloud: (samples, classes, points) behind a convolution."""
    text = "g (float[n,8,100] x, float[6,8,1] w) => (float[n,6,100] y) { y = Conv(x, w) }"
    logits = trained_logits(400).reshape(4, 100, 6).swapaxes(1, 2)
    (spec,) = found(text, logits).specs
    assert (spec.kind, spec.metric, spec.axis) == ("sequence", "top1", -2)


def test_bins_of_coordinates_name_the_flag_that_compares_the_largest() -> None:
    text = "g (float[n,4,8] x, float[8,96] w) => (float[n,4,96] simcc) { simcc = MatMul(x, w) }"
    bins = np.exp(-((np.arange(96) - RNG.uniform(10, 80, (8, 4, 1))) ** 2) / 72)
    (spec,) = found(text, bins.astype(np.float32)).specs
    assert (spec.metric, "--fidelity simcc=argmax" in spec.why) == ("sqnr", True)
