"""The text doctor: it finds what is wrong with a text, and repairs it only when asked.

`findings` lists what it detects and in which order. The detectors are in `characters`, `jamo`,
`markup`, `mojibake` and `personal`. `run` takes a corpus through them: `check` counts, `clean`
writes a repaired corpus.
"""
