"""The command line: parse, call, print.

In: words.
Out: exit codes, one sentence for every error, tables and JSON.
May import: everything.
"""

from edgeprune.cli.commands import cli, main
