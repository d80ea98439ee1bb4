import pytest

from edgeprune.errors import UsageError
from edgeprune.outputs.choice import Choice
from edgeprune.outputs.output_spec import Head, Outputs, OutputSpec, Part

HEAD = Head(Part("boxes", 2, 0, 4), Part("scores", 2))
FOUND = Outputs(
    ("depth", "boxes", "scores", "count"),
    (
        OutputSpec(("depth",), "map", "sqnr", "a map"),
        OutputSpec(("boxes", "scores"), "detections", "detections", "a head", head=HEAD),
        OutputSpec(("count",), "integers", "equal", "integers"),
    ),
)


def chosen(outputs: str | None = None, *fidelity: str) -> Outputs:
    return Choice.parse(outputs, fidelity).applied_to(FOUND)


def test_without_a_choice_nothing_changes() -> None:
    assert chosen() == FOUND
    assert [FOUND.share_of(name) for name in FOUND.names] == [0.25] * 4


def test_named_outputs_count_alone_with_their_weights() -> None:
    found = chosen("depth=3,boxes,scores")
    assert [found.share_of(name) for name in found.names] == [0.6, 0.2, 0.2, 0.0]
    assert found.spec_of("boxes").names == ("boxes", "scores")
    assert found.spec_of("count").weight == 0


def test_a_metric_replaces_the_usual_one_and_divides_what_was_judged_together() -> None:
    assert chosen(None, "depth=cosine").spec_of("depth").metric == "cosine"
    assert chosen(None, "depth=argmax").spec_of("depth").metric == "top1"
    apart = chosen(None, "boxes=iou")
    assert (apart.spec_of("boxes").metric, apart.spec_of("scores").metric) == ("iou", "sqnr")
    assert chosen("scores").spec_of("boxes").weight == 0
    assert chosen(None, "boxes=detections") == FOUND


@pytest.mark.parametrize(
    ("outputs", "fidelity", "message"),
    [
        ("dept", [], "no output 'dept'; it has 'depth'"),
        ("depth=0", [], "a weight above 0"),
        (None, ["depth=psnr"], "one of top1, cosine, sqnr"),
        (None, ["bboxes=iou"], "no output 'bboxes'; it has 'boxes'"),
        (None, ["depth=detections"], "no boxes with scores"),
        (None, ["count=sqnr"], "are integers"),
        (None, ["depth=equal"], "are floats"),
    ],
)
def test_what_does_not_fit_is_refused(outputs: str | None, fidelity: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(outputs, *fidelity)


def test_its_flags_give_the_same_choice() -> None:
    choice = Choice.parse("depth=3,boxes", ["depth=cosine"])
    flags = choice.flags()
    assert Choice.parse(flags["outputs"], flags["fidelity"]) == choice
    assert Choice().flags() == {}
