"""Label images are judged as the pipeline has loaded them."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from tests.helpers.commands import SEGMENTATION
from weightformer_mm.config.read import load_config
from weightformer_mm.datasets.guards.labels import LabelRange
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError


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


def over(labels):
    labels[0, 0] = 9
    return labels


@pytest.mark.parametrize('wrapped', [False, True])
@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda labels: np.where(labels == 1, 255, labels), None),
        (over, 'label 9 is no class'),
        (lambda labels: labels[:40], 'the label image has'),
    ],
)
def test_the_first_bad_label_image_is_named(shapes, tmp_path, split, wrapped, change, expected):
    root = shutil.copytree(shapes, tmp_path / 'set')
    path = root / f'annotations/{split}/000001.png'
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    loader = load_config(SEGMENTATION, data_root=root)[f'{split}_dataloader']
    init_default_scope('mmseg')
    loader.update(num_workers=0, persistent_workers=False)
    if wrapped:
        loader.dataset = dict(type='RepeatDataset', times=2, dataset=loader.dataset)
    dataset = CheckedRunner.build_dataloader(loader).dataset
    dataset[0]
    if expected is None:
        dataset[1]
        return
    with pytest.raises(UserError, match=expected) as error:
        dataset[1]
    assert str(error.value).startswith(f'{path}: ')


def test_labels_of_another_library_are_left_alone():
    assert LabelRange.of(object()) is None
