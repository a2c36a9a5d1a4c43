"""``--data-root``: which paths move, and which stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from weightformer_mm.config.read import load_config
from weightformer_mm.errors import UserError

CONFIGS = Path(__file__).parents[2] / 'configs'
TEXT = """
data_root = 'data/set/'
load_from = 'data/set/weights.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint='data/set/weights.pth')))
inner = dict(type='D', data_root=data_root, ann_file='a.json', data_prefix=dict(img='img/'))
other = dict(type='D', data_root='data/set_2/', ann_file='data/set/b.json')
train_dataloader = dict(
    dataset=dict(
        type='MultiImageMixDataset',
        dataset=dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[inner, other])),
        pipeline=[dict(type='LoadProposals', files=('data/set/p.json', 'data/settled'))],
    )
)
val_dataloader = dict(dataset=inner)
test_dataloader = val_dataloader
val_evaluator = [dict(ann_file=data_root + 'a.json', seg_prefix=data_root + 'annotations/panoptic')]
test_evaluator = val_evaluator
tta_pipeline = [dict(transforms=[[dict(root='data/set')]])]
prepare_data = 'python make.py --out data/set'
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize('root', ['/mnt/set', '/mnt/set/', 'data/set/below', 'data'])
def test_every_path_of_the_data_moves_once(config, root):
    cfg = load_config(config, data_root=root)
    new = root.rstrip('/')
    dataset = cfg.train_dataloader.dataset
    first, second = dataset.dataset.dataset.datasets
    assert (first.data_root, first.ann_file, first.data_prefix.img) == (
        f'{new}/',
        'a.json',
        'img/',
    )
    assert (second.data_root, second.ann_file) == ('data/set_2/', f'{new}/b.json')
    assert dataset.pipeline[0].files == (f'{new}/p.json', 'data/settled')
    for split in ('val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.data_root == f'{new}/'
        evaluator = cfg[f'{split}_evaluator'][0]
        assert evaluator.ann_file == f'{new}/a.json'
        assert evaluator.seg_prefix == f'{new}/annotations/panoptic'
    assert cfg.tta_pipeline[0].transforms[0][0].root == new
    assert cfg.data_root == f'{new}/'
    assert cfg.load_from == cfg.model.backbone.init_cfg.checkpoint == 'data/set/weights.pth'
    assert cfg.prepare_data == f'python make.py --out {new}'


def test_the_home_folder_is_known(config):
    assert load_config(config, data_root='~/set').data_root == f'{Path.home()}/set/'


def test_it_is_in_the_dumped_config(config, tmp_path):
    load_config(config, data_root='/mnt/set').dump(tmp_path / 'dumped.py')
    dumped = Config.fromfile(tmp_path / 'dumped.py')
    assert dumped.val_evaluator[0].ann_file == '/mnt/set/a.json'


def test_an_option_for_one_place_stays(config):
    options = ['val_dataloader.dataset.data_root=/elsewhere']
    cfg = load_config(config, options, '/mnt/set')
    assert cfg.val_dataloader.dataset.data_root == '/elsewhere'
    assert cfg.test_dataloader.dataset.data_root == '/mnt/set/'


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ("train_dataloader = dict(dataset=dict(data_root='d'))", 'has no data_root at its top'),
        ("data_root = ''", 'has no data_root at its top'),
        (
            "data_root = 'd/'\ntrain_dataloader = dict(dataset=dict(ann_file='dd/a'))",
            'no data load',
        ),
    ],
)
def test_a_config_without_it_is_refused(tmp_path, text, expected):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(UserError, match=expected) as error:
        load_config(path, data_root='/mnt')
    assert str(path) in str(error.value)


FILES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)


def strings(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from strings(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from strings(value)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_no_config_keeps_a_path_of_its_data(path):
    cfg = load_config(path, data_root='/mnt/set')
    parts = {key: cfg[key] for key in cfg if key.endswith(('_dataloader', '_evaluator'))}
    assert not [text for text in strings(parts) if text.startswith('data/')]
