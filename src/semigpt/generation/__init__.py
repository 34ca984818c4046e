"""Text from a model: sampling, constraints, batches, beams."""
