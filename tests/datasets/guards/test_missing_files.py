"""A file that a data set lists but that is not there is named before a training or an evaluation begins."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mmengine.registry import TRANSFORMS

from tests.helpers.both_ways import checked, config_for
from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from weightformer_mm.datasets.checks.images import missing_files
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError

FILES = [
    (DETECTION, 'images'),
    (SEGMENTATION, 'annotations'),
    (CLASSIFICATION, 'images'),
]
IDS = ['detection', 'labels', 'classification']


@pytest.fixture(params=['train', 'val'])
def split(request):
    return request.param


@pytest.fixture
def root(request, shapes, single_shapes, tmp_path) -> Path:
    of_one = request.getfixturevalue('task') == CLASSIFICATION
    return Path(shutil.copytree(single_shapes if of_one else shapes, tmp_path / 'set'))


def build(cfg, split):
    cfg[f'{split}_dataloader'].batch_size = 1
    return CheckedRunner.build_dataloader(cfg[f'{split}_dataloader'])


@pytest.mark.parametrize(('task', 'folder'), FILES, ids=IDS)
def test_the_first_is_named_and_the_others_counted(task, folder, root, split):
    cfg = config_for(task, root)
    build(cfg, split)
    what = 'image' if folder == 'images' else 'label image'
    first, second = sorted((root / folder / split).iterdir())[1:3]
    if folder == 'images':
        second.rename(root / 'kept')
        second.symlink_to(root / 'kept')
    first.unlink()
    with pytest.raises(
        UserError, match=f'^cannot read the {what} {first}: no such file; tools/che'
    ):
        build(config_for(task, root), split)
    (root / 'kept' if folder == 'images' else second).unlink()
    with pytest.raises(
        UserError, match=f'^cannot .* {first}: no such file, and 1 more are missing'
    ):
        build(config_for(task, root), split)
    errors = checked(config_for(task, root), (split,))
    assert len(errors) == 2 and str(first) in errors[0] and str(second) in errors[1]


@pytest.mark.parametrize('task', [DETECTION])
@pytest.mark.parametrize('key', ['backend_args', 'ignore_empty'])
def test_what_no_one_needs_to_find_here(task, key, root, split):
    cfg = config_for(task, root)
    (root / f'images/{split}/000001.png').unlink()
    node = cfg[f'{split}_dataloader'].dataset
    node.pipeline[0][key] = {'backend': 'http'} if key == 'backend_args' else True
    build(cfg, split)


@TRANSFORMS.register_module()
class PathsElsewhere:
    """Of a user's own: the items of the data set are not what is read."""

    def __call__(self, results):
        return results


@pytest.mark.parametrize('task', [SEGMENTATION])
def test_what_another_transform_may_change(task, root, split):
    cfg = config_for(task, root)
    (root / f'images/{split}/000001.png').rename(root / 'kept')
    (root / f'annotations/{split}/000001.png').unlink()
    cfg[f'{split}_dataloader'].dataset.pipeline.insert(0, dict(type='PathsElsewhere'))
    (root / f'images/{split}/000001.png').symlink_to(root / 'nowhere')
    build(cfg, split)


@pytest.mark.parametrize('task', [SEGMENTATION])
def test_labels_that_are_not_loaded_may_be_missing(task, root):
    cfg = config_for(task, root)
    (root / 'annotations/val/000001.png').unlink()
    pipeline = cfg.val_dataloader.dataset.pipeline
    pipeline[:] = [step for step in pipeline if step.type != 'LoadAnnotations']
    build(cfg, 'val')


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('in').mkdir()
    Path('in/a').touch()
    Path('b').touch()
    assert missing_files(['in/a', 'in/../b', 'b', 'c', 'no/a', './in//a', 'in']) == ['c', 'no/a']
