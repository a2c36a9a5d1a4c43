from __future__ import annotations

import cv2
import pytest

from projects.context.plot import LABEL_GAP, Point, draw_plot, spread


@pytest.mark.parametrize(
    'values',
    [[1.0] * 12, [0.5] * 6 + [1.0] * 6, [0.44, 0.45], [0.7], [], [1.0, 0.45, 0.99, 0.46, 0.98] * 4],
    ids=str,
)
def test_labels_keep_apart_and_within_the_axis(values):
    low, high = 0.4, 1.04
    heights = spread(values, low, high)
    assert all(low < height < high for height in heights)
    gap = min(LABEL_GAP, 1 / (len(values) + 1)) * (high - low)
    stacked = sorted(heights)
    assert all(after - before > 0.999 * gap for before, after in zip(stacked, stacked[1:]))
    order = sorted(range(len(values)), key=lambda index: values[index])
    assert [heights[index] for index in order] == stacked


def test_a_label_with_room_stays_at_its_value():
    assert spread([0.5, 0.9], 0.4, 1.0) == [0.5, 0.9]


def test_writes_a_picture(tmp_path):
    points = [Point('static', 16 * 10**9, 0.5, 0.45, 0.55), Point('attention', 5 * 10**12, 1, 1, 1)]
    draw_plot(points, 'multiply-adds', tmp_path / 'plot.png')
    drawn = cv2.imread(str(tmp_path / 'plot.png'))
    draw_plot([], 'multiply-adds', tmp_path / 'empty.png')
    empty = cv2.imread(str(tmp_path / 'empty.png'))
    assert (drawn != 255).sum() > (empty != 255).sum() > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ['empty.png', 'plot.png']
