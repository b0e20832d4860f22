"""Experiments as modules."""

import importlib
import sys
from pathlib import Path

import jax
import pytest

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def experiment(request, monkeypatch):
    """Import the experiment that the test's file is named after."""
    name = Path(request.path).stem.removeprefix("test_")
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    yield importlib.import_module(name)
    sys.modules.pop(name)  # other tests run the file anew
