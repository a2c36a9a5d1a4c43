"""How the image becomes tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from weightformer_mm.backbones.pyramid_weightformer import ConvStem
from weightformer_mm.backbones.weightformer import PatchEmbed


@pytest.mark.parametrize('shape', [(1, 3, 16, 16), (3, 3, 33, 7), (2, 3, 5, 40)])
def test_patches_are_convolved_with_zeros_beyond_the_image(shape):
    torch.manual_seed(0)
    embed = PatchEmbed(3, 6, 8).double()
    image = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    padded = nn.functional.pad(image, (0, -shape[3] % 8, 0, -shape[2] % 8))
    expected = nn.functional.conv2d(padded, embed.proj.weight, embed.proj.bias, stride=8)
    result = embed(image).permute(0, 3, 1, 2)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(expected)
    inputs = [image, *embed.proj.parameters()]
    for got, truth in zip(
        torch.autograd.grad(result, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
    ):
        torch.testing.assert_close(got, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    'changes',
    [dict(stride=4), dict(padding=1), dict(kernel_size=4, dilation=3, padding=3), dict(groups=3)],
    ids=str,
)
def test_a_projection_of_another_geometry_is_called(changes):
    embed = PatchEmbed(3, 6, 8)
    embed.proj = nn.Conv2d(3, 6, **{'kernel_size': 8, 'stride': 8, **changes})
    image = torch.randn(2, 3, 16, 24)
    assert torch.equal(embed(image), embed.proj(image).permute(0, 2, 3, 1))


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize('how', ['hooked', 'replaced'])
def test_what_was_done_to_the_projection_takes_part(how):
    embed = PatchEmbed(3, 6, 8)
    image = torch.randn(1, 3, 16, 24)
    expected = 2 * embed(image)
    if how == 'hooked':
        embed.proj.register_forward_hook(lambda module, inputs, output: 2 * output)
    else:
        doubled = Doubled(3, 6, 8, 8)
        doubled.load_state_dict(embed.proj.state_dict())
        embed.proj = doubled
    torch.testing.assert_close(embed(image), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('autocast', [False, True])
def test_convolutions_of_the_stem_are_channels_last(autocast):
    """A convolution passes on the layout of its input, and is faster in this one."""
    stem, seen = ConvStem(3, 8), []
    for conv in (stem.conv1, stem.conv2):
        conv.register_forward_pre_hook(lambda module, args: seen.append(args[0].is_contiguous()))
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        stem(torch.randn(2, 3, 10, 14))
    assert seen == [True, True]  # (B, H, W, C)
