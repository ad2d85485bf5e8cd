"""The benchmark of the emoji set: what is asked, and whether it was drawn."""
