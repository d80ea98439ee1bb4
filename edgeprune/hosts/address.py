"""The address of a machine over SSH, as ``--device`` takes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgeprune.errors import UsageError


@dataclass(frozen=True)
class Address:
    """The address to log in to: ``ssh://user@host:port``, user and port optional."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        return f"ssh://{self.user + '@' if self.user else ''}{self.host}{f':{self.port}' if self.port else ''}"


def parse_address(url: str) -> Address:
    """Parse ``ssh://[user@]host[:port]``.

    Raises:
        UsageError: The text has another form, or a name that ssh could take for an option.
    """
    wrong = UsageError(f"--device {url!r}: expected ssh://user@host or ssh://user@host:port")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise wrong from error
    plain = parts.scheme == "ssh" and not (parts.path.strip("/") or parts.query or parts.fragment or parts.password)
    host, user = parts.hostname, parts.username
    if not plain or not host or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:%-]*", host):
        raise wrong
    if user is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", user):
        raise wrong
    return Address(host, user, port)
