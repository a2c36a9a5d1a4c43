from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from weightformer_mm.apis.inferencer import find_images
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


def refuse(monkeypatch, folder: Path) -> None:
    """Let the system refuse to list a folder, as it would to anybody but root."""
    scan = os.scandir

    def scandir(path):
        if Path(path) == folder:
            raise PermissionError(13, 'Permission denied', str(folder))
        return scan(path)

    monkeypatch.setattr(os, 'scandir', scandir)


def test_a_folder_that_cannot_be_read_is_not_called_empty(shapes, monkeypatch):
    folder = shapes / 'images/val'
    refuse(monkeypatch, folder)
    with pytest.raises(UserError, match=f'{folder} cannot be read: Permission denied'):
        check_data(config(dataset(shapes)), ('test',))
    for source in (folder, shapes / 'images'):
        with pytest.raises(UserError, match=f'{folder} cannot be read: Permission denied'):
            find_images(source)


def test_a_pipe_is_refused(shapes, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / 'set'))
    annotations = root / 'annotations/instances_val.json'
    annotations.unlink()
    os.mkfifo(annotations)
    with pytest.raises(UserError, match=f'{annotations} is neither a file nor a folder'):
        check_data(config(dataset(root)), ('test',))
    with pytest.raises(UserError, match=f'{annotations} is neither a file nor a folder'):
        find_images(annotations)
