"""Adapters: small sets of weights that change a network, low-rank ones so far."""
