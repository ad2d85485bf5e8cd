"""Data sets: `protocol` says what training and evaluation ask of a set; `emoji` is the set of the embedded model."""
