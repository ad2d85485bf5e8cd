"""Releases on Hugging Face and on this disk: the catalogue, their licences, downloads, and models by name."""
