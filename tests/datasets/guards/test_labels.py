"""A bad label image is named when a training loads it."""

from __future__ import annotations

import os
import shutil

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from tests.helpers.commands import SEGMENTATION
from weightformer_mm.config.read import load_config
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError


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
        (lambda labels: labels.astype(np.uint16) + 256, 'pixels of mode I;16'),
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


@pytest.mark.parametrize('labelled', [0, 1])
def test_a_training_needs_a_labelled_pixel(shapes, tmp_path, labelled):
    root = shutil.copytree(shapes, tmp_path / 'set')
    for path in sorted((root / 'annotations/train').glob('*.png'))[: 8 - labelled]:
        cv2.imwrite(str(path), np.full((96, 96), 255, np.uint8))
    loader = load_config(SEGMENTATION, data_root=root).train_dataloader
    init_default_scope('mmseg')
    loader.update(num_workers=0, persistent_workers=False)
    if labelled:
        assert len(CheckedRunner.build_dataloader(loader).dataset) == 8
        return
    with pytest.raises(UserError, match='no labelled pixel is left to learn from'):
        CheckedRunner.build_dataloader(loader)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_suffix_that_no_image_has_is_named(shapes, split):
    loader = load_config(SEGMENTATION, data_root=shapes)[f'{split}_dataloader']
    init_default_scope('mmseg')
    loader.dataset.img_suffix = '.jpg'
    said = rf"BaseSegDataset: no image in \S+/images/{split} ends in '.jpg' \(img_suffix\)"
    with pytest.raises(UserError, match=said):
        CheckedRunner.build_dataloader(loader)


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('timeout', 5, 'timeout=5 is for workers'),
        ('generator', 3, 'generator=3 is none; set random'),
    ],
)
def test_what_pytorch_looks_at_late_is_refused_at_once(key, value, said, shapes, split):
    loader = load_config(SEGMENTATION, data_root=shapes)[f'{split}_dataloader']
    init_default_scope('mmseg')
    loader.update({'num_workers': 0, 'persistent_workers': False, key: value})
    with pytest.raises(UserError, match=said):
        CheckedRunner.build_dataloader(loader)


def test_a_pipe_does_not_hang(shapes, tmp_path):
    root = shutil.copytree(shapes, tmp_path / 'set')
    path = root / 'annotations/train/000001.png'
    path.unlink()
    os.mkfifo(path)
    loader = load_config(SEGMENTATION, data_root=root).train_dataloader
    init_default_scope('mmseg')
    loader.update(num_workers=0, persistent_workers=False)
    dataset = CheckedRunner.build_dataloader(loader).dataset
    with pytest.raises(UserError, match=f'{path}: neither a file nor a folder'):
        dataset[1]
