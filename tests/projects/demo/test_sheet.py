from __future__ import annotations

import cv2
import numpy as np
import pytest

from projects.demo.sheet import GAP, HEADER, make_sheet

SIDE = 40


def write(path, *greys):
    parts = [np.full((SIDE, SIDE, 3), grey, np.uint8) for grey in greys]
    cv2.imwrite(str(path), np.hstack(parts))
    return path


@pytest.mark.parametrize('count', [1, 4, 5])
def test_each_row_is_image_truth_prediction(tmp_path, count):
    images = [write(tmp_path / f'image{i}.png', 10 + i) for i in range(count)]
    pictures = [write(tmp_path / f'picture{i}.png', 100 + i, 200 + i) for i in range(count)]
    make_sheet(images, pictures, tmp_path / 'sheet.png', columns=2)
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    cell, per_column = SIDE + GAP, -(-count // 2)
    column_width = 3 * cell + 3 * GAP
    assert sheet.shape[0] == HEADER + per_column * cell
    for index in range(count):
        column, row = divmod(index, per_column)
        y, x = HEADER + row * cell + SIDE // 2, column * column_width + SIDE // 2
        assert [sheet[y, x + part * cell, 0] for part in range(3)] == [
            10 + index,
            100 + index,
            200 + index,
        ]
    assert not list(tmp_path.glob('.partial*'))


def test_an_unreadable_picture_is_named(tmp_path):
    image = write(tmp_path / 'image.png', 10)
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'no picture')
    with pytest.raises(ValueError, match=r'broken\.png'):
        make_sheet([image], [broken], tmp_path / 'sheet.png')
