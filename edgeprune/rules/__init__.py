"""Axis-relation rules, one file an operator family."""
