"""A list of images with classes is refused before a training by the rule of the check."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from tests.helpers.both_ways import checked
from tests.helpers.commands import CLASSIFICATION, options
from weightformer_mm.apis import train
from weightformer_mm.config.read import load_config
from weightformer_mm.datasets.guards.annotations import check_numbers
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
    built = CheckedRunner.build_dataloader(loader).dataset
    if number == 5:
        check_numbers(built)
        assert not errors
        return
    with pytest.raises(UserError) as error:
        check_numbers(built)
    said = f'classes: {number} is no class of 6: {root}/images/{split}/{image}'
    assert errors == [f'error: {said}']
    assert str(error.value) == f'{file}: {said}; tools/check_dataset.py lists what is wrong'


def test_a_training_and_an_evaluation_are_refused_where_heads_read_classes(single_shapes, tmp_path):
    root = Path(shutil.copytree(single_shapes, tmp_path / 'set'))
    file = root / 'annotations/classes_val.txt'
    file.write_text(file.read_text().replace('\n', '9\n', 1))
    given = options(CLASSIFICATION, root, model__head__num_classes=6)[1:]
    with pytest.raises(UserError, match='classes: .9 is no class of 6: '):
        train(str(CLASSIFICATION), tmp_path / 'work', options=given)
    train(str(CLASSIFICATION), tmp_path / 'other', options=[*given, 'check_classes=False'])
