"""The examples in docstrings run and say what they show."""

import doctest
import importlib

import pytest

MODULES = ("sfumato.api", "sfumato.images.drawn", "sfumato.tasks.result")


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried.attempted and not tried.failed
