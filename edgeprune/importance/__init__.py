"""Importance criteria, one file a criterion, registered by name."""
