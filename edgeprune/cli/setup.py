"""Commands on the installation: doctor, and completion for the shell."""

from __future__ import annotations

import click

from edgeprune.cli import options, support
from edgeprune.cli.support import COMPLETE_VARIABLE, Verbosity


@click.command()
@click.option("--target", shell_complete=options.complete_targets, help="Also say what is missing for this device.")
@options.json_option
@support.verbosity_options
def doctor(target: str | None, as_json: bool, verbosity: Verbosity) -> int:
    """Show what is installed and which providers can run a model; exit code 5 if something needed is missing."""
    from edgeprune.cli.doctor import examine

    found = examine(target)
    if as_json:
        support.print_json(found.to_json())
    elif not verbosity.quiet or not found.healthy:
        from edgeprune.cli.doctor import print_examination

        print_examination(support.output_console(), found, verbose=verbosity.verbose)
    return 0 if found.healthy else 5


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes edgeprune's commands and flags in SHELL.

    Bash: eval "$(edgeprune completion bash)" in ~/.bashrc; zsh the same in ~/.zshrc; fish: edgeprune completion fish >
    ~/.config/fish/completions/edgeprune.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(context.find_root().command, {}, "edgeprune", COMPLETE_VARIABLE)
    # Not made.source(), which runs bash for its version: the script may be written on another machine.
    click.echo(ShellComplete.source(made))
