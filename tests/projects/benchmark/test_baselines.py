"""The baselines compute what the package computes: same parameters, same outputs, same gradients."""

from __future__ import annotations

import pytest
import torch

from projects.benchmark.baselines import PlainPyramid, PublishedWeightFormer
from projects.benchmark.baselines.layers import DynamicLinear
from weightformer_mm.analysis.complexity import count_operations
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer

PYRAMID = dict(embed_dims=(8, 16, 16, 24), depths=(3, 3, 3, 3))
ISOTROPIC = dict(embed_dims=24, depth=6)
CASES = [
    (WeightFormer, PublishedWeightFormer, ISOTROPIC, (64, 64)),
    (WeightFormer, PublishedWeightFormer, ISOTROPIC, (16, 16)),
    (PyramidWeightFormer, PlainPyramid, PYRAMID, (64, 64)),
    (PyramidWeightFormer, PlainPyramid, PYRAMID, (37, 90)),
    (PyramidWeightFormer, PlainPyramid, {**PYRAMID, 'depths': (1, 2, 2, 3)}, (32, 161)),
]


def run(model, image, seed):
    outputs = model(image)
    generator = torch.Generator().manual_seed(seed)
    upstream = [torch.randn(out.shape, dtype=out.dtype, generator=generator) for out in outputs]
    torch.autograd.backward(outputs, upstream)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return [out.detach() for out in outputs], gradients


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize(('ours', 'baseline', 'arch', 'size'), CASES)
def test_baseline_equals_ours(ours, baseline, arch, size, batch):
    torch.manual_seed(0)
    mine = ours(arch=arch).double().train()
    # initial predicted updates are nearly zero: make them count
    for parameter in mine.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs = baseline(arch).double().train()
    theirs.load_state_dict(mine.state_dict(), strict=True)
    image = torch.randn(batch, 3, *size, dtype=torch.float64, requires_grad=True)
    copy = image.detach().clone().requires_grad_()
    (expected, expected_gradients), (outputs, gradients) = run(mine, image, 1), run(theirs, copy, 1)
    assert theirs.out_strides == mine.out_strides
    for output, reference in zip(outputs, expected):
        torch.testing.assert_close(output, reference, rtol=1e-10, atol=1e-10)
    assert set(gradients) == set(expected_gradients)
    for name, reference in expected_gradients.items():
        scale = reference.abs().max()
        error = (gradients[name] - reference).abs().max()
        assert scale > 0 and error <= 1e-10 * scale, name
    torch.testing.assert_close(copy.grad, image.grad, rtol=1e-9, atol=1e-10)


def test_published_form_expands_both_sides_for_every_pooled_token():
    side, width, hidden = 32, ISOTROPIC['embed_dims'], 4 * ISOTROPIC['embed_dims']
    tokens, pooled = side**2, side**2 // 4
    left, right = width // 4, hidden // 4
    predictor = pooled * (width * (left + right) + left * width + right * hidden + width * hidden)
    layer = DynamicLinear(width, hidden)
    with count_operations(layer) as counts:
        layer(torch.zeros(1, tokens, width), side, side)
    assert counts.total == predictor + tokens * width * hidden
