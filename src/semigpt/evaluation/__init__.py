"""How well a model knows a text, in units that people compare."""
