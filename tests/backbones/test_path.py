"""Through how many files of the package an image passes on its way to the feature maps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import weightformer_mm
from tests.helpers.contract import MICRO, MICRO_IDS, build

MOST = 12
ROOT = Path(weightformer_mm.__file__).parent


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_inference_on_a_cpu_passes_few_files(backbone, arch):
    model, image = build(backbone, arch).eval(), torch.randn(1, 3, 64, 64)
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
    # each block computes what its own forward says, in whichever form
    files.add('layers/blocks.py')
    assert 'backbones/base.py' in files
    assert len(files) <= MOST, sorted(files)
