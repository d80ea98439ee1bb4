"""Shared by all commands: verbosity, consoles, and the end of a run: an exit code and one sentence for an error."""

from __future__ import annotations

import contextlib
import functools
import gc
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
class Verbosity:
    """How much a command prints.

    Attributes:
        quiet: only the result.
        verbose: also reasons.
    """

    quiet: bool
    verbose: bool = False

    def progress(self) -> Progress:
        """Bars on a terminal, lines elsewhere, on standard error; nothing with --quiet, nor in CI unless verbose."""
        from edgeprune.support import Progress, TerminalProgress

        if self.quiet or (in_ci() and not self.verbose):
            return Progress()
        console = error_console()
        if not console.is_terminal:
            return TerminalProgress(console)
        from edgeprune.support import StepTimes

        return TerminalProgress(console, StepTimes(_work(), kind=_kind_of_work()))


def _work() -> str:
    """Key of the command and its model and data: the same work takes the same time again."""
    context = click.get_current_context()
    named = [context.params.get(name) for name in ("model", "other", "source", "target", "shapes", "calibration")]
    return repr([context.info_name, str(named[0] and os.path.abspath(str(named[0]))), *map(str, named[1:])])


def _kind_of_work() -> str:
    """Key of the command and its target, for a usual time over several models."""
    context = click.get_current_context()
    return f"{context.info_name} {context.params.get('target') or ''}".strip()


def in_ci() -> bool:
    """Whether this is a job of continuous integration, which sets $CI; nobody watches a progress bar there."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def verbosity_options(command: Command) -> Command:
    """Add --quiet and --verbose, received as ``verbosity``; with --verbose an error also prints its traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, quiet: bool, verbose: bool, **options: Any) -> Any:
        try:
            return command(*args, verbosity=Verbosity(quiet, verbose), **options)
        except Exception:
            if verbose or os.environ.get("EDGEPRUNE_DEBUG", "0") not in ("", "0"):
                traceback.print_exc()
            raise

    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help="Also print reasons, and the traceback of an error (as EDGEPRUNE_DEBUG=1 does).",
    )(wrapped)
    click.option("-q", "--quiet", is_flag=True, help="Show no progress, only the result.")(wrapped)
    return cast(Command, wrapped)


def set_imports_aside() -> None:
    """Keep garbage collection from walking through all that was imported, until the command ends.

    A compile makes and drops hundreds of models, whose nodes refer to each other, so it needs the collector. Of the
    time of each collection, the modules of the libraries take half, and nothing of them is ever garbage.
    """
    gc.freeze()
    click.get_current_context().call_on_close(gc.unfreeze)


def output_console() -> Console:
    """Standard output, for results."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_LOG)


def error_console() -> Console:
    """Standard error, for progress and notes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH_OF_A_LOG)


def print_json(data: Mapping[str, object]) -> None:
    """Print one JSON object on standard output."""
    import json

    click.echo(json.dumps(data, indent=1, allow_nan=False))


def run_and_exit(group: click.Group, arguments: list[str] | None) -> NoReturn:
    """Run the command line and exit with its code; an error is one sentence on standard error."""
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(group, {}, "edgeprune", COMPLETE_VARIABLE, instruction))
    with _exit_on_termination():
        code = _run(group, arguments)
    sys.exit(code)


def _run(group: click.Group, arguments: list[str] | None) -> int:
    try:
        # Not group.main: when the reader of a pipe closes it, that exits with code 1, which means a failed gate.
        with group.make_context("edgeprune", list(sys.argv[1:] if arguments is None else arguments)) as context:
            result = group.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _end("interrupted", INTERRUPTED)
    except click.MissingParameter as error:
        missing = error.param
        told = f" {missing.help}" if isinstance(missing, click.Option) and missing.help else ""
        return _end(f"{error.format_message()}{told}", UsageError.exit_code)
    except click.ClickException as error:
        return _end(error.format_message(), UsageError.exit_code)
    except EdgepruneError as error:
        return _end(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, closed it; closing standard output at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _end("this machine has not enough memory for this model", BackendError.exit_code)
    except OSError as error:
        where = f" {error.filename!r}" if error.filename else ""
        return _end(f"{error.strerror or error}{where}", UsageError.exit_code)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        return _end(f"internal error in edgeprune ({text}); --verbose shows where", ModelError.exit_code)


def _end(sentence: str, code: int) -> int:
    click.echo(f"edgeprune: {' '.join(sentence.split())}", err=True)
    return code


@contextlib.contextmanager
def _exit_on_termination() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that no partial output remains."""

    def leave(_: int, __: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
