"""The kinds of files that weights come in: each is parsed here, and nothing in it is ever executed."""
