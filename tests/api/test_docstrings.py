"""Every example in the docstrings of the package runs as it stands."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import mrharmony


def modules_with_examples() -> list[str]:
    names = [module.name for module in pkgutil.walk_packages(mrharmony.__path__, "mrharmony.")]
    found = []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec and spec.origin and ">>>" in open(spec.origin, encoding="utf-8").read():  # noqa: SIM115, PTH123
            found.append(name)
    return found


def test_the_front_door_has_examples():
    assert {"mrharmony.api.images", "mrharmony.api.harmonizer"} <= set(modules_with_examples())


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_run(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0 and outcome.failed == 0
