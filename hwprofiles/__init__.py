"""Hardware profiles, one file a device, with their schema."""
