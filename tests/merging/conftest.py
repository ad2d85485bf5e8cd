"""Little models and their files, for the tests of merging them."""

from tiny.models import odd, random_model_fixture, save, shrunk, tiny, tokenizer_folder, write

__all__ = ["odd", "random_model_fixture", "save", "shrunk", "tiny", "tokenizer_folder", "write"]
