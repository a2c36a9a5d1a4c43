"""What is wrong with a label image, in words."""

from __future__ import annotations

import numpy as np
import pytest

from weightformer_mm.datasets.checks.labels import LabelRange


@pytest.mark.parametrize('dtype', [np.uint8, np.int64])
@pytest.mark.parametrize(
    ('value', 'expected'),
    [(0, None), (3, None), (255, None), (4, 'label 4 is no'), (254, 'label 254 is no class')],
)
def test_values(dtype, value, expected):
    labels = np.zeros((3, 4), dtype)
    labels[1, 2] = value
    problem = LabelRange(4).problem(labels, (3, 4, 3))
    assert problem is None if expected is None else expected in problem


def test_the_message_has_the_values_of_the_file():
    problem = LabelRange(4, shifted=True).problem(np.full((2, 2), 4, np.uint8), None)
    assert 'label 5 is no class: 4 classes are numbered from 1 to 4' in problem


def test_shapes():
    assert '4x3 pixels, its image has 5x3' in LabelRange(4).problem(np.zeros((3, 4)), (3, 5))
    assert 'one channel' in LabelRange(4).problem(np.zeros((3, 4, 3)), (3, 4))


def test_labels_of_another_library_are_left_alone():
    assert LabelRange.of(object()) is None
