"""A trained model in the formats of other runtimes, each file tried in the real one before it is
left.
"""
