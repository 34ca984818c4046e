"""The text doctor: what is wrong with a text, and putting it right, nothing changed silently.

`findings` says what it looks for and in which order, `mojibake` and `personal` hold the two kinds of finding that
need proof, and `run` takes a corpus through them: `check` counts, `clean` writes a corpus that has been repaired.
"""
