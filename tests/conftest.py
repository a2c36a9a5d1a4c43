from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from weightformer_mm.datasets import ShapesConfig, make_shapes

# a shell ignores Ctrl-C for what it starts in the background, and so would the processes of the tests
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """A small Shapes data set: 8 training and 3 validation images of 96x96 pixels."""
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(folder, ShapesConfig(train=8, val=3, size=96), progress=False)
    return folder


@pytest.fixture(scope='session')
def context_shapes(tmp_path_factory) -> Path:
    """A small ContextShapes set: 8 training and 3 validation images of 100x100 pixels."""
    folder = tmp_path_factory.mktemp('data') / 'shapes_context'
    make_shapes(folder, ShapesConfig(train=8, val=3, size=100, context=True), progress=False)
    return folder


@pytest.fixture
def no_safe_globals():
    """Nothing but tensors and plain values may be read with ``weights_only=True`` in this test."""
    if not hasattr(torch.serialization, 'get_safe_globals'):  # torch < 2.4 allows nothing else
        yield
        return
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.add_safe_globals(allowed)


@pytest.fixture(scope='session')
def single_shapes(tmp_path_factory) -> Path:
    """A small Shapes set for classification: 8 training and 3 validation images of 64x64 pixels."""
    folder = tmp_path_factory.mktemp('data') / 'shapes_single'
    make_shapes(folder, ShapesConfig(train=8, val=3, size=64, single=True), progress=False)
    return folder
