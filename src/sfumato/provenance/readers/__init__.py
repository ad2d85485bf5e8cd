"""Settings that other programs left in their pictures, read as ours: one file for each dialect."""
