"""The model folder that the ecosystem loads."""
