"""Machines that run commands and keep files: this one, or another one over SSH; the state and sensors of a Jetson.

In: commands, scripts, files.
Out: exit codes, output, files, readings of sensors.
May import: support and errors.
"""

from edgeprune.hosts.host import Finished, Host, LocalHost, Workspace, call_in_child, describe, read_text
from edgeprune.hosts.sensors import (
    DESCRIBE,
    LOCK_CLOCKS,
    POWER,
    STATE,
    busy_lines,
    conditions,
    idle_lines,
    memory_lines,
)
from edgeprune.hosts.ssh import SshHost
