"""Adapters: files that change a model a little, read as differences of its weights, and views of networks with them."""
