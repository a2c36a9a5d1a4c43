from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS

from weightformer_mm.necks import SimpleFeaturePyramid


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', [(1, 1), (2, 3), (5, 4), (1, 9)], ids=str)
@pytest.mark.parametrize('num_outs', [4, 5, 6])
def test_scales_and_gradients(size, num_outs, batch):
    torch.manual_seed(0)
    neck = MODELS.build(
        dict(type='SimpleFeaturePyramid', in_channels=16, out_channels=8, num_outs=num_outs)
    )
    outputs = neck([torch.randn(batch, 16, *size)])
    expected = [(4 * size[0], 4 * size[1]), (2 * size[0], 2 * size[1]), size]
    while len(expected) < num_outs:  # halved, rounding up
        expected.append(tuple(-(-side // 2) for side in expected[-1]))
    assert [tuple(output.shape) for output in outputs] == [(batch, 8, *shape) for shape in expected]
    assert all(
        output.is_contiguous() for output in outputs
    )  # mmcv's RoIAlign misreads other layouts
    assert neck.out_channels == (8,) * num_outs
    torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
    assert all(torch.isfinite(parameter.grad).all() for parameter in neck.parameters())


def test_wrong_numbers_of_maps_are_refused():
    with pytest.raises(ValueError, match='num_outs of at least 4, got 3'):
        SimpleFeaturePyramid(16, num_outs=3)
    neck = SimpleFeaturePyramid(16, out_channels=8)
    with pytest.raises(ValueError, match='takes one map, got 2'):
        neck([torch.randn(1, 16, 2, 2)] * 2)
