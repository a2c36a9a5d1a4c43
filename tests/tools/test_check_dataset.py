"""``tools/check_dataset.py`` and ``tools/browse.py`` as a user runs them, on recipes and on broken data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.miniatures import make_miniature
from tests.helpers.commands import DETECTION, ROOT, SEGMENTATION, options
from weightformer_mm.apis.check_dataset import check_dataset
from weightformer_mm.config.read import load_config
from weightformer_mm.datasets.checks.report import BadData

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


def without_iscrowd(content):
    del content['annotations'][0]['iscrowd']


def without_area(content):
    for entry in content['annotations']:
        entry['area'] = 0


def with_texts(content):
    for entry in content['annotations']:
        entry['image_id'] = str(entry['image_id'])


@pytest.mark.parametrize(
    ('split', 'change', 'expected'),
    [
        ('train', with_texts, "id 1: `image_id` is '0', not 0"),
        ('val', without_iscrowd, "without 'iscrowd', which the evaluation needs: id 1"),
        ('train', without_area, 'no object is left to learn from'),
    ],
)
def test_the_check_and_a_training_refuse_the_same(
    tools, tiny_set, tmp_path, split, change, expected
):
    root, work = Path(shutil.copytree(tiny_set, tmp_path / 'set')), tmp_path / 'work'
    file = root / f'annotations/instances_{split}.json'
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    found = tools.run('check_dataset', DETECTION, '--data-root', root, '--split', 'train', 'val')
    assert found.code == 1 and expected in found.out
    refused = tools.run('train', DETECTION, '--work-dir', work, *options(DETECTION, root))
    line = refused.error_line()
    assert f'{file}: ' in line and expected in line
    assert not list(work.rglob('*.pth'))


@pytest.mark.parametrize(
    ('config', 'steps', 'expected'),
    [
        (DETECTION, ["dict(type='PackDetInputs')"], 'loads no objects: '),
        (
            DETECTION,
            ["dict(type='LoadAnnotations', with_bbox=True)", "dict(type='PackDetInputs')"],
            'loads no masks, and the model has a mask head',
        ),
        (SEGMENTATION, ["dict(type='PackSegInputs')"], 'loads no label images: '),
        (
            SEGMENTATION,
            ["dict(type='LoadAnnotations', reduce_zero_label=False)", "dict(type='PackSegInputs')"],
            'Initialize dataset with `reduce_zero_label` as True but',
        ),
    ],
)
def test_both_refuse_a_pipeline_whose_annotations_do_not_suit(
    tools, tiny_set, tmp_path, config, steps, expected
):
    pipeline = ', '.join(["dict(type='LoadImageFromFile')", *steps])
    path = tmp_path / 'config.py'
    path.write_text(
        f'_base_ = {str(config)!r}\ntrain_dataloader = dict(dataset=dict(pipeline=[{pipeline}]))\n'
    )
    work = tmp_path / 'work'
    found = tools.run('check_dataset', path, '--data-root', tiny_set, '--split', 'train')
    assert found.code == 1 and expected in found.out
    refused = tools.run('train', path, '--work-dir', work, *options(config, tiny_set))
    line = refused.error_line()
    assert 'config: train_dataloader: ' in line and expected in line


@pytest.mark.parametrize(
    ('config', 'steps', 'expected'),
    [
        (SEGMENTATION, ["dict(type='PackSegInputs')"], 'to IoUMetric: it needs LoadAnnotations'),
        (DETECTION, None, "to CocoMetric: PackDetInputs needs 'instances' in its meta_keys, or"),
    ],
)
def test_both_refuse_an_evaluation_without_annotations(
    tools, tiny_set, tmp_path, config, steps, expected
):
    path = tmp_path / 'config.py'
    pipeline = f"[dict(type='LoadImageFromFile'), {', '.join(steps or ())}]"
    change = f'val_dataloader = dict(dataset=dict(pipeline={pipeline}))\n'
    path.write_text(
        f'_base_ = {str(config)!r}\n'
        + (change if steps else 'val_evaluator = dict(ann_file=None)\n')
    )
    found = tools.run('check_dataset', path, '--data-root', tiny_set, '--split', 'train', 'val')
    assert found.code == 1 and expected in found.out
    given = [option for option in options(config, tiny_set) if 'ann_file' not in option]
    refused = tools.run('train', path, '--work-dir', tmp_path / 'work', *given)
    line = refused.error_line()
    assert 'config: val_dataloader: ' in line and expected in line


def test_masks_of_0_and_255(shapes, tmp_path, capsys):
    root = Path(shutil.copytree(shapes, tmp_path / 'set'))
    for label in (root / 'annotations/train').glob('*.png'):
        values = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(label), (values > 1).astype(np.uint8) * 255)
    cfg = load_config(SEGMENTATION, (), root)
    dataset = cfg.train_dataloader.dataset
    dataset.pipeline[1].reduce_zero_label = dataset.reduce_zero_label = False
    cfg.dump(tmp_path / 'config.py')
    check_dataset(str(tmp_path / 'config.py'), ('train',))
    out = capsys.readouterr().out
    assert (
        'only background and 255: 255 counts nowhere; in masks of 0 and 255 write the class, 1'
        in out
    )
    with pytest.raises(BadData):
        check_dataset(str(SEGMENTATION), ('train',), data_root=str(root))
    assert '255 counts nowhere, nor 0 with reduce_zero_label' in capsys.readouterr().out
