"""The grammar of axis relations: its results, and its errors, which name the place."""

import pytest

from edgeprune.dependency.dims import Axis, parse, rule, rule_of
from edgeprune.errors import RuleError


def factor(name: str) -> Axis:
    return Axis("factor", (name,))


def test_a_convolution() -> None:
    g = parse("n (g i) ., (g o) i ., (g o) -> n (g o) .")
    rest = Axis("rest")
    assert g.inputs == (
        (factor("n"), Axis("product", ("g", "i")), rest),
        (Axis("product", ("g", "o")), factor("i"), rest),
        (Axis("product", ("g", "o")),),
    )
    assert g.outputs == ((factor("n"), Axis("product", ("g", "o")), rest),)
    assert g.contracted == {"i"}


def test_a_dot_is_one_axis_unless_it_closes_the_term() -> None:
    (term,) = parse(". c . -> c").inputs
    assert [a.kind for a in term] == ["frozen", "factor", "rest"]


def test_concatenations_takes_and_marks() -> None:
    g = parse("[p|c|q] !b ~s 1, -> c@i [+z|b] +t s")
    assert g.inputs == ((Axis("concat", ("p", "c", "q")), factor("b"), factor("s"), Axis("one")), ())
    assert g.outputs[0][0] == Axis("take", ("c",), "i")
    assert (g.frozen, g.statistic, g.indices) == ({"b"}, {"s"}, {"i"})


@pytest.mark.parametrize(
    ("text", "contracted"),
    [
        ("... m k, ... k n -> ... m n", {"k"}),
        ("a r -> a", {"r"}),
        ("[p|c|q] -> c", set()),  # dropped, not summed
        ("c -> c@i", set()),
        ("(h d) -> d h", set()),
        ("(h d) -> h", {"d"}),
    ],
)
def test_contracted_factors_are_those_that_no_result_holds(text: str, contracted: set[str]) -> None:
    assert parse(text).contracted == contracted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n c", "'->' is missing at its end"),
        ("n c > n c", "a factor's name is missing, found '>' at column 5"),
        ("n (g i", r"'\(' is not closed at column 3"),
        ("n () -> n", r"'\(\)' is empty at column 3"),
        ("[] -> n", r"'\[\]' is empty at column 1"),
        ("[a b] -> a", "'|' or ']' is missing at column 4"),
        ("n ( -> n", r"a factor's name is missing, found '->' at column 5"),
        ("n ~ -> n", "a factor's name is missing, found '->' at column 5"),
        ("n 2 -> n", "a factor's name is missing, found '2' at column 3"),
        ("c@ -> c", "a factor's name is missing, found '->' at column 4"),
        ("... a ... -> a", "a term has more than one '...' at column 7"),
        ("... a . -> a", "'...' and a closing '.' cannot stand in one term"),
        ("a -> a -> a", "unexpected '->' at column 8"),
        ("(a a) -> a", r"a factor stands twice in \(a a\)"),
        ("a -> b", r"factor 'b' of a result is in no operand \(one that the operator makes is \+b\)"),
        ("", "'->' is missing at its end"),
        ("a; b -> a", "found ';' at column 2"),
    ],
)
def test_errors_name_the_place(text: str, message: str) -> None:
    with pytest.raises(RuleError, match=message.replace("|", r"\|").replace("...", r"\.\.\.")):
        parse(text)


def test_an_operator_has_one_rule() -> None:
    assert rule_of("", "Conv") is not None
    assert rule_of("ai.onnx", "Conv") is rule_of("", "Conv")
    with pytest.raises(RuleError, match="Conv has two rules"):
        rule("Conv")(lambda n: None)  # type: ignore[arg-type, return-value]


def test_an_unknown_operator_has_none() -> None:
    assert rule_of("", "NoSuchOperator") is None
    assert rule_of("com.acme", "Conv") is None
