"""What the commands share: what they print to, and how a run ends: exit code and one sentence on what went wrong."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import click

from edgeprune.errors import BackendError, EdgepruneError, ModelError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from edgeprune.support import Progress

Command = TypeVar("Command", bound=Callable[..., Any])

COMPLETE_VARIABLE = "_EDGEPRUNE_COMPLETE"
INTERRUPTED = 130
TERMINATED = 143
_WIDTH_OF_A_LOG = 160


@dataclass(frozen=True)
class Shown:
    """How much a command tells.

    Attributes:
        quiet: nothing but the result.
        verbose: reasons too.
    """

    quiet: bool
    verbose: bool = False

    def progress(self) -> Progress:
        """Bars on a terminal, lines elsewhere, on standard error; nothing under --quiet, nor in CI unless verbose."""
        from edgeprune.support import Progress, TerminalProgress

        if self.quiet or (in_ci() and not self.verbose):
            return Progress()
        console = error_console()
        if not console.is_terminal:
            return TerminalProgress(console)
        from edgeprune.support import StepTimes

        return TerminalProgress(console, StepTimes(_work(), kind=_kind_of_work()))


def _work() -> str:
    """What the running command works on: the same again will take as long."""
    context = click.get_current_context()
    named = [context.params.get(name) for name in ("model", "other", "source", "target", "shapes", "calibration")]
    return repr([context.info_name, str(named[0] and os.path.abspath(str(named[0]))), *map(str, named[1:])])


def _kind_of_work() -> str:
    """What takes about as long for one model as for another."""
    context = click.get_current_context()
    return f"{context.info_name} {context.params.get('target') or ''}".strip()


def in_ci() -> bool:
    """Whether this is a job of continuous integration, which sets $CI; nobody watches a bar there."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def say_how_much(command: Command) -> Command:
    """Add --quiet and --verbose; the command receives a `Shown`, and its errors show their traceback if asked to."""

    @functools.wraps(command)
    def wrapped(*args: Any, quiet: bool, verbose: bool, **options: Any) -> Any:
        try:
            return command(*args, shown=Shown(quiet, verbose), **options)
        except Exception:
            if verbose or os.environ.get("EDGEPRUNE_DEBUG", "0") not in ("", "0"):
                traceback.print_exc()
            raise

    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help="Say why, too; and show the traceback of an error (so does EDGEPRUNE_DEBUG=1).",
    )(wrapped)
    click.option("-q", "--quiet", is_flag=True, help="Show no progress, only the result.")(wrapped)
    return cast(Command, wrapped)


def output_console() -> Console:
    """Where results go: standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_LOG)


def error_console() -> Console:
    """Where progress and notes go: standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH_OF_A_LOG)


def print_json(data: Mapping[str, object]) -> None:
    """Print one JSON object on standard output."""
    import json

    click.echo(json.dumps(data, indent=1, allow_nan=False))


def run_and_exit(group: click.Group, arguments: list[str] | None) -> NoReturn:
    """Run the command line and leave with its exit code; what went wrong is one sentence on standard error."""
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(group, {}, "edgeprune", COMPLETE_VARIABLE, instruction))
    with _exit_on_termination():
        code = _run(group, arguments)
    sys.exit(code)


def _run(group: click.Group, arguments: list[str] | None) -> int:
    try:
        # Not group.main: it leaves with exit code 1, a failed gate's, when the reader of a pipe goes away.
        with group.make_context("edgeprune", list(sys.argv[1:] if arguments is None else arguments)) as context:
            result = group.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _end("interrupted", INTERRUPTED)
    except click.ClickException as error:
        return _end(error.format_message(), UsageError.exit_code)
    except EdgepruneError as error:
        return _end(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough; closing standard output at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _end("there is not enough memory for this model on this machine", BackendError.exit_code)
    except OSError as error:
        where = f" {error.filename!r}" if error.filename else ""
        return _end(f"{error.strerror or error}{where}", UsageError.exit_code)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        return _end(f"a fault in edgeprune stopped it ({text}); --verbose shows where", ModelError.exit_code)


def _end(sentence: str, code: int) -> int:
    click.echo(f"edgeprune: {' '.join(sentence.split())}", err=True)
    return code


@contextlib.contextmanager
def _exit_on_termination() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that nothing half-written stays."""

    def leave(_: int, __: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
