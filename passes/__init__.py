"""Graph passes, one a file. A pass states what it requires and ensures; the pipeline enforces both."""

from __future__ import annotations
