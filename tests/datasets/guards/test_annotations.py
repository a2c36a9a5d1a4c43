"""COCO files are refused while they are loaded for a training."""

from __future__ import annotations

import json
import shutil

import pytest
from mmengine.registry import init_default_scope
from pycocotools.coco import COCO

from tests.helpers.commands import DETECTION
from weightformer_mm.config.read import load_config
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError


def twice(content):
    content['images'].append(dict(content['images'][3], file_name='other.png'))


CHANGES = {
    'nothing': (lambda content: None, None),
    'image id': (twice, 'id twice in images: 3'),
    'images alone': (
        lambda content: content.pop('annotations'),
        'no list of annotations to train on',
    ),
    'annotation id': (
        lambda content: content['annotations'].append(dict(content['annotations'][0])),
        'id twice in annotations: ',
    ),
    'key': (lambda content: content['annotations'][0].pop('area'), "annotations without 'area'"),
    'category': (
        lambda content: content['categories'].pop(2),
        "not among the categories of the file: 'triangle'",
    ),
}


@pytest.mark.parametrize('wrapped', [False, True])
@pytest.mark.parametrize('case', CHANGES)
def test_the_file_is_named(case, wrapped, shapes, tmp_path):
    root = shutil.copytree(shapes, tmp_path / 'set')
    file = root / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    change, expected = CHANGES[case]
    change(content)
    file.write_text(json.dumps(content))
    cfg = load_config(DETECTION, data_root=root)
    init_default_scope('mmdet')
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    if wrapped:
        loader.dataset = dict(type='RepeatDataset', times=2, dataset=loader.dataset)
    methods = COCO.__init__, COCO.createIndex
    if expected is None:
        assert len(CheckedRunner.build_dataloader(loader).dataset) == 8 * (1 + wrapped)
    else:
        with pytest.raises(UserError, match=expected) as error:
            CheckedRunner.build_dataloader(loader)
        assert str(file) in str(error.value)
    assert methods == (COCO.__init__, COCO.createIndex)


@pytest.mark.parametrize(
    ('is_right', 'width', 'expected'),
    [
        (True, 8, None),
        (False, 8, 'panoptic.json: classes: in another order than in'),
        (True, '8', "panoptic.json cannot be read: TypeError: '<' not supported"),
    ],
)
def test_a_panoptic_file(is_right, width, expected, tmp_path):
    """mmdet numbers things and stuff in the order of the file."""
    names = ['car', 'road'] if is_right else ['road', 'car']
    segment = {'id': 1, 'category_id': 1, 'iscrowd': 0, 'bbox': [0, 0, 8, 8], 'area': 64}
    content = {
        'images': [{'id': 1, 'width': width, 'height': 8, 'file_name': 'a.jpg'}],
        'annotations': [{'image_id': 1, 'file_name': 'a.png', 'segments_info': [segment]}],
        'categories': [{'id': names.index(n) + 1, 'name': n, 'isthing': n == 'car'} for n in names],
    }
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    init_default_scope('mmdet')
    dataset = {
        'type': 'CocoPanopticDataset',
        'data_root': str(tmp_path),
        'ann_file': 'panoptic.json',
        'data_prefix': {'img': '', 'seg': ''},
        'metainfo': {
            'classes': ('car', 'road'),
            'thing_classes': ('car',),
            'stuff_classes': ('road',),
        },
        'filter_cfg': {'filter_empty_gt': True, 'min_size': 4},
        'pipeline': [],
    }
    loader = {'dataset': dataset, 'sampler': {'type': 'DefaultSampler'}, 'batch_size': 1}
    if expected is None:
        assert len(CheckedRunner.build_dataloader(loader)) == 1
    else:
        with pytest.raises(UserError, match=expected):
            CheckedRunner.build_dataloader(loader)
