from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from edgeprune.cli.commands import cli
from edgeprune.cli.quantity import MILLISECONDS, POINTS, TIMES, Quantity, parse_speedups


@pytest.mark.parametrize(
    ("quantity", "text", "number"),
    [
        (MILLISECONDS, "4", 4.0),
        (MILLISECONDS, "4ms", 4.0),
        (MILLISECONDS, " 4 MS ", 4.0),
        (MILLISECONDS, "0.004 s", 4.0),
        (MILLISECONDS, "4e3us", 4.0),
        (MILLISECONDS, 4.0, 4.0),
        (TIMES, "2x", 2.0),
        (TIMES, "1.5", 1.5),
        (POINTS, "1%", 1.0),
        (POINTS, "0", 0.0),
    ],
)
def test_a_number_with_or_without_its_unit(quantity: Quantity, text: str, number: float):
    assert quantity.convert(text, None, None) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("text", ["4 fps", "x", "", "1.2.3", "nan", "inf", "0", "-1", "1e999", "2x"])
def test_what_is_no_latency_is_refused(text: str):
    with pytest.raises(click.BadParameter):
        MILLISECONDS.convert(text, None, None)


def test_the_sentence_names_the_flag_and_the_units():
    done = CliRunner().invoke(cli, ["compile", "m.onnx", "--target", "cpu", "--latency-ms", "4fps"])
    assert done.exit_code == 2
    assert (
        "Invalid value for '--latency-ms': '4fps' is not a number, with or without ms or s or us or µs." in done.output
    )


def test_speedups_of_a_curve_may_have_theirs():
    option = click.Option(["--pareto"])
    assert parse_speedups(click.Context(cli), option, "1.5x,2X, 3") == (1.5, 2.0, 3.0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "m.onnx", "--target", "orin", "--max-memory-mb", "nan"],
        ["compile", "m.onnx", "--target", "orin", "--max-energy-mj", "nan"],
        ["compile", "m.onnx", "--target", "orin", "--tune-placement", "nan"],
        ["gate", "out", "--max-memory-mb", "nan"],
        ["gate", "out", "--max-regression", "nan"],
        ["prune", "m.onnx", "--ratio", "nan"],
        ["bench", "m.onnx", "--seconds", "nan"],
    ],
    ids=lambda arguments: arguments[-2],
)
def test_nan_is_no_limit(arguments: list[str]):
    """No number is beyond it: every result would have met it."""
    done = CliRunner().invoke(cli, arguments)
    said = done.output if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)
    assert arguments[-2] in said
    assert "nan" in said
