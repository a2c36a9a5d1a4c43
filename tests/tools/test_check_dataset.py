"""``tools/check_dataset.py`` and ``tools/browse.py`` as a user runs them, on recipes and on broken data."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from projects.miniatures import make_miniature
from tests.helpers.commands import ROOT, SEGMENTATION

RECIPES = {
    'coco': 'coco/mask-rcnn_pyramid-weightformer-tiny_fpn_1x_coco.py',
    'ade20k': 'ade20k/upernet_pyramid-weightformer-tiny_8xb2-160k_ade20k-512x512.py',
}


@pytest.fixture(scope='module')
def miniatures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('miniatures')
    for layout in RECIPES:
        make_miniature(layout, folder / layout, train=4, val=2, size=(96, 128), progress=False)
    return folder


@pytest.mark.parametrize('layout', RECIPES)
def test_a_recipe_on_clean_data(tools, miniatures, tmp_path, layout):
    config, root = ROOT / 'configs' / RECIPES[layout], miniatures / layout
    out = tools.run('check_dataset', config, '--data-root', root).ok()
    assert 'summary: no errors' in out
    assert '\ntrain: ' in out and '\nval, test: ' in out
    sheet = tmp_path / 'sheet.jpg'
    tools.run('browse', config, '--data-root', root, '--out', sheet, '--num', 2).ok()
    assert cv2.imread(str(sheet)) is not None


def test_findings_and_wrong_input_have_exit_codes_of_their_own(tools, shapes, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / 'set'))
    (root / 'annotations/train/000001.png').unlink()
    result = tools.run('check_dataset', SEGMENTATION, '--data-root', root, '--split', 'train')
    assert result.code == 1
    assert f'no label image for an image: {root}/annotations/train/000001.png' in result.out
    assert 'error: 1 error in the data: a training would fail or go wrong' in result.err
    result = tools.run('check_dataset', SEGMENTATION, '--data-root', root, '--split', 'val')
    assert result.code == 0
    line = tools.run('check_dataset', SEGMENTATION, '--data-root', tmp_path / 'none')
    assert f'{tmp_path}/none not found' in line.error_line()
