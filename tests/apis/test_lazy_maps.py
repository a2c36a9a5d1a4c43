"""A map that is computed a few rows at a time has the values of the whole map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from weightformer_mm.apis import lazy_maps
from weightformer_mm.apis.lazy_maps import stored

# rows of one pass over a map: single ones, a few, all
each_height = pytest.mark.parametrize('count', [1, 3, 100])


def assemble(lazy, count: int) -> torch.Tensor:
    """All rows of a map, ``count`` at a time."""
    ends = [(start, min(start + count, lazy.size[0])) for start in range(0, lazy.size[0], count)]
    return torch.cat([lazy.rows(*pair) for pair in ends], dim=2)


def agree(lazy, whole: torch.Tensor, count: int, tolerance: float) -> None:
    found = assemble(lazy, count)
    assert lazy.size == tuple(whole.shape[2:]) and found.dtype == whole.dtype
    assert float((found - whole).norm()) <= tolerance * float(whole.norm())


@pytest.mark.parametrize(
    ('mode', 'align_corners'), [('nearest', None), ('bilinear', False), ('bilinear', True)]
)
@pytest.mark.parametrize(
    'sides', [(1, 7), (2, 5), (13, 26), (13, 29), (40, 11), (9, 9), (700, 2741)]
)
@each_height
def test_resized(mode, align_corners, sides, count):
    options = dict(mode=mode, align_corners=align_corners)
    if sides[0] > 100:
        count *= 100
    # in float32 the weights of rows have rounding errors of their own, and these must be the same
    for dtype, tolerance in ((torch.float64, 1e-15), (torch.float32, 2e-7)):
        x = torch.randn(1, 2, sides[0], 5, dtype=dtype)
        lazy = lazy_maps.resized(stored(x), (sides[1], 12), **options)
        agree(lazy, F.interpolate(x, (sides[1], 12), **options), count, tolerance)


@pytest.mark.parametrize('padding', [0, 1, 3])
@each_height
def test_convolved(padding, count):
    x = torch.randn(2, 3, 14, 5, dtype=torch.float64)
    size, dilation = {0: (1, 1), 1: (3, 1), 3: (3, 3)}[padding]
    conv = nn.Conv2d(3, 4, size, padding=padding, dilation=dilation).double()
    with torch.no_grad():
        agree(lazy_maps.convolved(stored(x), conv), conv(x), count, 1e-14)


@each_height
def test_group_normalised(count, monkeypatch):
    monkeypatch.setattr(lazy_maps, 'MAX_TOKENS', 5 * count)
    x = 10 + torch.randn(2, 6, 14, 5, dtype=torch.float64)
    norm = nn.GroupNorm(3, 6).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
        # the square of the mean, 100, is subtracted from the mean of the squares: a variance of 1
        agree(lazy_maps.group_normalised(stored(x), norm), norm(x), count, 1e-13)


@each_height
def test_cropped_and_joined(count):
    x = torch.randn(1, 3, 14, 9)
    lazy = lazy_maps.cropped(lazy_maps.joined(stored(x), stored(x)), 2, 1, 3, 0)
    agree(lazy, torch.cat([x, x], 1)[:, :, 2:-1, 3:], count, 0)


def test_kept_reads_each_strip_once(monkeypatch):
    monkeypatch.setattr(lazy_maps, 'MAX_TOKENS', 3 * 5)
    x, read = torch.randn(1, 2, 14, 5), []

    def rows(start, stop):
        read.append((start, stop))
        return x[:, :, start:stop]

    lazy = lazy_maps.kept(lazy_maps.Map((14, 5), rows))
    for start in range(13):
        assert torch.equal(lazy.rows(start, start + 2), x[:, :, start : start + 2])
    assert read == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 14)]
