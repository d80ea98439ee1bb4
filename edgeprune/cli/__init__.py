"""The command line: parse, call, print.

In: arguments of the command line.
Out: exit codes, one sentence for every error, tables and JSON.
May import: everything.
"""

from edgeprune.cli.commands import cli, main
