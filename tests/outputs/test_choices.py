"""What is compared in place of outputs that a choice gives."""

import onnx_ir as ir
import pytest

from edgeprune.outputs.choices import Choices, find_choices
from edgeprune.testing.oracle import parse
from tests.small_heads import HEADS, head


def compared(choices: Choices) -> set[str]:
    return {place.value for places in choices.compared.values() for place in places}


@pytest.mark.parametrize(
    ("name", "values", "inside"),
    [
        ("classifier", {"p"}, set()),
        ("end to end", {"boxes", "s3"}, set()),
        ("suppressed", {"boxes", "s3"}, set()),
        ("class map", {"logits"}, set()),
        ("queries", {"out"}, {"picked"}),
        ("fixed queries", {"boxes", "scores"}, set()),
        ("mask", {"q"}, set()),
    ],
)
def test_what_is_compared(name: str, values: set[str], inside: set[str]) -> None:
    found = find_choices(head(name))
    assert compared(found) == values
    assert set(found.inside) == inside


def test_a_choice_inside_is_compared_by_what_it_chooses_from() -> None:
    (places,) = find_choices(head("queries")).inside.values()
    assert [place.value for place in places] == ["enc"]


def test_rows_of_constants_and_sizes_are_no_choice() -> None:
    text = "g (float[2, 6] x) => (float[2, 4] y) { s = Shape(x) h = MatMul(x, w) y = Add(h, b) }"
    assert not find_choices(parse(text, w=(6, 4), b=(4,))).any


@pytest.mark.parametrize("name", HEADS)
def test_every_output_is_compared_by_something(name: str) -> None:
    model: ir.Model = head(name)
    found = find_choices(model)
    assert set(found.compared) == {str(o.name) for o in model.graph.outputs}
    assert all(found.compared.values())
