"""A short training on real scenes, and the model of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from study.inference.exported import Model, load

if TYPE_CHECKING:
    from tests.inference.test_exported import Made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    from tests.inference.test_exported import Made  # here, where pytest has rewritten its assertions

    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def model(made: Made) -> Model:
    return load(made.file)
