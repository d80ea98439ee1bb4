"""Hardware profiles, one file for each device, with their schema."""
