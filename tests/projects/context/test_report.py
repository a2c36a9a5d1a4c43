from __future__ import annotations

from projects.context.cost import Cost
from projects.context.report import Row, format_table, points

COST = Cost(190_584, {256: 255_952_896, 2048: 16_296_216_576})


def row(name, backbone, cues):
    metrics = {'cue_accuracy': cues, 'mIoU': [0.8] * len(cues), 'found': [0.9] * len(cues)}
    return Row(name, backbone, list(range(len(cues))), metrics, COST, 51.4)


def test_cells_of_the_table():
    pair = {'dynamic_linear': 'bilateral', 'dynamic_conv': 'adaptive'}
    rows = [
        row('published', pair, [1.0, 0.95, 0.99]),
        row('attention', {'token_mixer': 'attention'}, [None]),
    ]
    lines = format_table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
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


def test_points_of_the_plot():
    (point,) = points([row('published', {}, [1.0, 0.95, 0.99]), row('attention', {}, [None])])
    assert point == ('published', 16_296_216_576, (1.0 + 0.95 + 0.99) / 3, 0.95, 1.0)
