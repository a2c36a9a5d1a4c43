from __future__ import annotations

from pathlib import Path

import pytest

from weightformer_mm.datasets import ShapesConfig, make_shapes


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """A small Shapes data set: 8 training and 3 validation images of 96x96 pixels."""
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(folder, ShapesConfig(train=8, val=3, size=96), progress=False)
    return folder


@pytest.fixture(scope='session')
def single_shapes(tmp_path_factory) -> Path:
    """A small Shapes set for classification: 8 training and 3 validation images of 64x64 pixels."""
    folder = tmp_path_factory.mktemp('data') / 'shapes_single'
    make_shapes(folder, ShapesConfig(train=8, val=3, size=64, single=True), progress=False)
    return folder
