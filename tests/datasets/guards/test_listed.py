"""A list of images with classes is refused before a training by the rule of the check."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from tests.helpers.both_ways import checked
from tests.helpers.commands import CLASSIFICATION
from weightformer_mm.config.read import load_config
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError


@pytest.mark.parametrize('wrapped', [False, True])
@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('number', [5, 6, -1])
def test_the_first_image_of_no_class_is_named(number, split, wrapped, single_shapes, tmp_path):
    root = Path(shutil.copytree(single_shapes, tmp_path / 'set'))
    file = root / f'annotations/classes_{split}.txt'
    first, rest = file.read_text().split('\n', 1)
    image = first.split()[0]
    file.write_text(f'{image} {number}\n{rest}')
    cfg = load_config(CLASSIFICATION, (), root)
    init_default_scope('mmpretrain')
    errors, loader = checked(cfg, (split,)), cfg[f'{split}_dataloader']
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    if wrapped:
        loader.dataset = dict(type='RepeatDataset', times=2, dataset=loader.dataset)
    if number == 5:
        CheckedRunner.build_dataloader(loader)
        assert not errors
        return
    with pytest.raises(UserError) as error:
        CheckedRunner.build_dataloader(loader)
    said = f'classes: {number} is no class of 6: {root}/images/{split}/{image}'
    assert errors == [f'error: {said}']
    assert str(error.value) == f'{file}: {said}; tools/check_dataset.py lists what is wrong'
