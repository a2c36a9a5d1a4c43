from __future__ import annotations

from functools import cache

import pytest
from matplotlib.figure import Figure

from projects.context.outcome import SIDES, Row, backbone_cost, draw_plot, format_table
from weightformer_mm.backbones.strategies import compared_strategies

COST = (190_584, {256: 255_952_896, 2048: 16_296_216_576})


def row(name, backbone, cues):
    metrics = {'cue_accuracy': cues, 'mIoU': [0.8] * len(cues), 'found': [0.9] * len(cues)}
    return Row(name, backbone, list(range(len(cues))), metrics, *COST, 51.4)


def test_cells_of_the_table():
    pair = {'dynamic_linear': 'bilateral', 'dynamic_conv': 'adaptive'}
    rows = [
        row('published', pair, [1.0, 0.95, 0.99]),
        row('attention', {'token_mixer': 'attention'}, [None]),
    ]
    lines = format_table(rows).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[2] == [
        'published',
        'bilateral',
        'adaptive',
        '0.980 (0.950 to 1.000)',
        '0.800 (0.800 to 0.800)',
        '0.900 (0.900 to 0.900)',
        '191 k',
        '256 M',
        '16.3 G',
        '51 s',
        '0, 1, 2',
    ]
    assert cells[3][:4] == ['attention', '–', '–', 'none found']


def test_the_plot_has_a_point_for_each_variant_that_found_something(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        Figure,
        'savefig',
        lambda self, path, **options: figures.append(self) or path.write_text('-'),
    )
    draw_plot(
        [row('published', {}, [1.0, 0.95, 0.99]), row('none', {}, [None])], tmp_path / 'a.png'
    )
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']
    (axes,) = figures[0].axes
    handles, labels = axes.get_legend_handles_labels()
    assert set(labels) == {'published', 'guessing'}
    ((x, y),) = handles[labels.index('published')].lines[0].get_xydata()
    assert (x, y) == (16_296_216_576, pytest.approx(0.98))


BACKBONE = dict(type='PyramidWeightFormer', arch='micro', out_indices=(0, 1))


@cache
def multiply_adds(name):
    return backbone_cost({**BACKBONE, **compared_strategies()[name]})[1]


def test_the_static_network_costs_what_its_layers_say():
    side = 256
    stem = 27 * 16 * (side // 2) ** 2 + 9 * 16 * 32 * (side // 4) ** 2
    stage0 = 3 * (9 * 32 + 8 * 32**2) * (side // 4) ** 2
    stage1 = (9 * 32 * 64 + 3 * (9 * 64 + 8 * 64**2)) * (side // 8) ** 2
    assert multiply_adds('static')[side] == stem + stage0 + stage1


@pytest.mark.parametrize('side', SIDES)
def test_attention_is_counted_to_the_last_product(side):
    """Four projections and the two products with N x N scores, in place of a convolution."""
    expected = 0
    for width, tokens in ((32, (side // 4) ** 2), (64, (side // 8) ** 2)):
        expected += 4 * tokens * width**2 + 2 * tokens**2 * width - 9 * width * tokens
    difference = multiply_adds('attention')[side] - multiply_adds('static')[side]
    assert difference == expected


@pytest.mark.parametrize('name', [name for name in compared_strategies() if name != 'attention'])
def test_every_strategy_is_linear(name):
    counts = multiply_adds(name)
    assert counts[2048] <= 64 * counts[256]
    assert counts[2048] >= multiply_adds('static')[2048]
