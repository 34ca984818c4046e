"""Charts, and one HTML page per run."""
