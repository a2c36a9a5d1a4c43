"""Through how many files of the package an image passes on its way to the feature maps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import weightformer_mm
from tests.helpers.contract import BACKBONES

MOST = 12
# functions in the place of those that PyTorch 2.1 to 2.3 lack stand in one file more
MOST += torch.__version__ < (2, 4)
ROOT = Path(weightformer_mm.__file__).parent


@pytest.mark.parametrize('backbone', BACKBONES)
def test_inference_on_a_cpu_passes_few_files(backbone):
    model, image = backbone().eval(), torch.randn(1, 3, 65, 97)
    files = set()

    def record(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == 'call' and ROOT in path.parents:
            files.add(str(path.relative_to(ROOT)))

    with torch.inference_mode():
        before = sys.getprofile()
        sys.setprofile(record)
        try:
            model(image)
        finally:
            sys.setprofile(before)
    assert 'backbones/base.py' in files and 'layers/dynamic.py' in files
    assert len(files) <= MOST, sorted(files)
