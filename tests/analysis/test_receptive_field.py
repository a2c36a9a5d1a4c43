"""Receptive fields of every strategy before training, and the numbers and pictures made of them."""

from __future__ import annotations

import cv2
import pytest
import torch

from weightformer_mm.analysis.receptive_field import (
    draw_receptive_fields,
    receptive_field,
    share_beyond,
)
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.backbones.strategies import compared_strategies, strategy_options

PYRAMID = dict(arch=dict(embed_dims=(8, 16), depths=(3, 3)), out_indices=1)
# pixels to each side: stem 1 + 2, blocks 3 * 4, downsampling 4, blocks 3 * 8
PYRAMID_REACH = 43
ISOTROPIC = dict(arch=dict(embed_dims=16, depth=6), patch_size=4)
# tokens to each side: one per block; the central one is the third of its pixels' patch at the most
ISOTROPIC_REACH = 6 * 4
NETWORKS = [(PyramidWeightFormer, PYRAMID), (WeightFormer, ISOTROPIC)]
IMAGES = [torch.randn(3, 128, 160, generator=torch.Generator().manual_seed(0))]


def field(network, options, strategy):
    torch.manual_seed(0)
    return receptive_field(network(**options, **strategy_options(strategy)), IMAGES)


@pytest.mark.parametrize('strategy', compared_strategies())
@pytest.mark.parametrize(('network', 'options'), NETWORKS, ids=['pyramid', 'isotropic'])
def test_only_static_sees_nothing_beyond_its_reach(network, options, strategy):
    seen = field(network, options, strategy)
    assert seen.energy.shape == (128, 160)
    assert seen.energy.sum().item() == pytest.approx(1)
    assert (seen.beyond[0.75] == 0) == (strategy == 'static')
    assert bool((seen.energy == 0).any()) == (strategy == 'static')


@pytest.mark.parametrize(
    ('network', 'options', 'top', 'left', 'reach'),
    [
        # the central position is that of pixel 64, 80; the pyramid's convolutions centre on it
        (PyramidWeightFormer, PYRAMID, 64, 80, (PYRAMID_REACH, PYRAMID_REACH)),
        # the patch of pixels 64 to 67, 80 to 83
        (WeightFormer, ISOTROPIC, 64, 80, (ISOTROPIC_REACH, ISOTROPIC_REACH + 3)),
    ],
)
def test_the_reach_of_static_is_that_of_its_convolutions(network, options, top, left, reach):
    energy = field(network, options, 'static').energy
    rows, columns = (energy.sum(dim=dim).nonzero().flatten() for dim in (1, 0))
    before, after = reach
    assert (rows[0].item(), rows[-1].item()) == (top - before, top + after)
    assert (columns[0].item(), columns[-1].item()) == (left - before, left + after)


def test_share_beyond_a_central_window():
    even = torch.full((40, 80), 1.0)
    for side in (0.25, 0.5, 0.75):
        assert share_beyond(even, side) == pytest.approx(1 - side**2)
    center = torch.zeros(40, 80)
    center[20, 40] = 3.0
    assert share_beyond(center, 0.25) == 0
    center[0, 0] = 1.0
    assert share_beyond(center, 0.75) == pytest.approx(0.25)


def test_the_numbers_do_not_depend_on_the_mode_and_leave_it():
    torch.manual_seed(0)
    network = PyramidWeightFormer(**PYRAMID, drop_path_rate=0.9, drop_rate=0.5)
    first = receptive_field(network.train(), IMAGES)
    assert network.training
    assert torch.equal(first.energy, receptive_field(network.eval(), IMAGES).energy)


def test_no_images():
    with pytest.raises(ValueError, match='at least one image'):
        receptive_field(PyramidWeightFormer(**PYRAMID), [])


@pytest.mark.parametrize('columns', [1, 8])
def test_picture(columns, tmp_path):
    seen = field(*NETWORKS[0], 'static')
    per_column = {f'strategy {number}': seen for number in range(columns)}
    draw_receptive_fields({'before': per_column, 'after': per_column}, tmp_path / 'erf.png')
    assert [path.name for path in tmp_path.iterdir()] == ['erf.png']
    height, width, _ = cv2.imread(str(tmp_path / 'erf.png')).shape
    assert width > 200 * min(columns, 6) and height > 200 * (2 if columns == 1 else 4)
