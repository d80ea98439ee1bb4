"""Lets ``python -m edgeprune`` do what ``edgeprune`` does."""

from __future__ import annotations

from edgeprune.cli import main

if __name__ == "__main__":
    main()
