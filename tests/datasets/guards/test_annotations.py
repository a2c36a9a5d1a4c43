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
