"""Experiments over whole runs: the ladder, tokenizers, crashes, and how a step runs here."""
