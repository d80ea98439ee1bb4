"""Backends build, benchmark and verify a lowered model on an inference runtime."""
