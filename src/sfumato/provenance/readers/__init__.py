"""What programs left in their pictures, read as recipes of ours: a reader a program."""
