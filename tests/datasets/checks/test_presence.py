from __future__ import annotations

import shutil

import pytest
from mmengine.config import Config

from weightformer_mm.datasets.checks.presence import check_data
from weightformer_mm.errors import UserError


def dataset(root) -> dict:
    return {
        'type': 'CocoDataset',
        'data_root': str(root),
        'ann_file': 'annotations/instances_val.json',
        'data_prefix': {'img': 'images/val/'},
    }


def config(inner: dict, **more) -> Config:
    return Config({'test_dataloader': {'dataset': inner}, **more})


WRAPPERS = {
    'plain': lambda inner: inner,
    'repeat': lambda inner: {'type': 'RepeatDataset', 'times': 2, 'dataset': inner},
    'concat': lambda inner: {'type': 'ConcatDataset', 'datasets': [inner]},
}


@pytest.mark.parametrize('wrap', WRAPPERS.values(), ids=WRAPPERS)
def test_missing_parts_are_named(wrap, shapes, tmp_path):
    root = tmp_path / 'shapes'
    shutil.copytree(shapes, root)
    cfg = config(wrap(dataset(root)))
    check_data(cfg, ('train', 'val', 'test'))

    annotations = root / 'annotations/instances_val.json'
    annotations.unlink()
    with pytest.raises(UserError, match=f'{annotations} not found .*set data_root'):
        check_data(cfg, ('test',))
    shutil.rmtree(root)
    with pytest.raises(UserError, match=f'{root} not found .* and 2 more; make it with: make it$'):
        check_data(config(wrap(dataset(root)), prepare_data='make it'), ('test',))
    check_data(cfg, ('train',))


def test_a_prefix_may_be_a_string(tmp_path):
    (tmp_path / 'meta').mkdir()
    cfg = config({'type': 'ImageNet', 'data_root': str(tmp_path), 'data_prefix': 'val'})
    with pytest.raises(UserError, match=f'{tmp_path}/val not found .*dataset.data_prefix'):
        check_data(cfg, ('test',))
    (tmp_path / 'val/n01440764').mkdir(parents=True)
    check_data(cfg, ('test',))


def test_annotations_of_the_evaluator(shapes, tmp_path):
    evaluators = [{'type': 'CocoMetric', 'ann_file': str(tmp_path / 'none.json')}]
    cfg = config(dataset(shapes), test_evaluator=evaluators)
    with pytest.raises(UserError, match='none.json not found .test_evaluator.ann_file'):
        check_data(cfg, ('test',))


@pytest.mark.parametrize(
    'change', [{'data_root': 's3://bucket/set'}, {'backend_args': {'backend': 'petrel'}}]
)
def test_data_elsewhere_is_left_to_mmengine(change, tmp_path):
    check_data(config({**dataset(tmp_path / 'none'), **change}), ('test',))
