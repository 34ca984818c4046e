"""C, compiled on first use. Each piece has a path in PyTorch or Python as its oracle."""
