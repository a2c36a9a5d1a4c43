"""Heads against data sets, on models of each task."""

from __future__ import annotations

import pytest
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch.utils.data import Dataset

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from weightformer_mm.config.read import RECIPES, load_config
from weightformer_mm.datasets.checks.classes import build_unloaded, check_classes
from weightformer_mm.errors import UserError


def check(config, root, *options):
    cfg = load_config(config, options, root)
    init_default_scope(cfg.default_scope)
    check_classes(cfg, MODELS.build(cfg.model), ('train', 'val'))


@pytest.mark.parametrize('config', [DETECTION, SEGMENTATION, CLASSIFICATION])
def test_the_configs_fit(config, shapes):
    check(config, shapes)


@pytest.mark.parametrize(
    ('config', 'option', 'expected'),
    [
        (
            DETECTION,
            'model.roi_head.bbox_head.num_classes=80',
            'model.roi_head.bbox_head (Shared2FC',
        ),
        (DETECTION, 'model.roi_head.mask_head.num_classes=5', 'has num_classes=5, but CocoDataset'),
        (SEGMENTATION, 'model.auxiliary_head.num_classes=9', 'model.auxiliary_head (FCNHead)'),
        (CLASSIFICATION, 'model.head.num_classes=9', 'model.head (LinearClsHead)'),
        (
            DETECTION,
            'val_dataloader.dataset.metainfo.classes=("disk","ring")',
            '(val_dataloader.dataset) has 2 classes: disk, ring',
        ),
    ],
)
def test_both_sides_are_named(config, option, expected, shapes):
    with pytest.raises(UserError) as error:
        check(config, shapes, option)
    assert expected in str(error.value) and 'num_classes' in str(error.value)


def test_other_classes_on_purpose(shapes):
    check(SEGMENTATION, shapes, 'model.auxiliary_head.num_classes=9', 'check_classes=False')


PANOPTIC = sorted(RECIPES.glob('coco/*anoptic*.py'))
THREE_TWO = [
    'metainfo.thing_classes=("a","b","c")',
    'metainfo.stuff_classes=("d","e")',
    'metainfo.classes=("a","b","c","d","e")',
]


def with_metainfo(number: int) -> list[str]:
    splits = ('train', 'val')
    return [f'{split}_dataloader.dataset.{o}' for split in splits for o in THREE_TWO[-number:]]


def numbers(config, things: int, stuff: int) -> list[str]:
    parts = ['semantic_head', 'panoptic_fusion_head']
    own = ['roi_head.bbox_head', 'roi_head.mask_head']
    if 'mask2former' in config.stem:
        parts, own = ['panoptic_head', 'panoptic_fusion_head'], []
    each = {'num_things_classes': things, 'num_stuff_classes': stuff}
    options = [f'model.{part}.{key}={value}' for part in parts for key, value in each.items()]
    return options + [f'model.{head}.num_classes={things}' for head in own]


@pytest.mark.parametrize('config', PANOPTIC, ids=lambda path: path.stem[:12])
def test_things_and_stuff(config, tmp_path):
    check(config, tmp_path)  # 80 and 53
    weights = ['model.panoptic_head.loss_cls.class_weight=[1,1,1,1,1,0.1]']
    own = [*numbers(config, 3, 2), *(weights if 'mask2former' in config.stem else [])]
    check(config, tmp_path, *with_metainfo(3), *own)
    head, key = 'roi_head.bbox_head', 'num_classes=80, but .* 3 classes'
    if 'mask2former' in config.stem:
        head, key = 'panoptic_head', 'num_things_classes=80, but .* 3 things classes'
    with pytest.raises(UserError, match=rf'^model\.{head} \(\w+\) has {key}: a, b'):
        check(config, tmp_path, *with_metainfo(3))
    with pytest.raises(UserError, match=r'has num_stuff_classes=53, but .* 2 stuff classes: d, e'):
        check(config, tmp_path, *with_metainfo(3), *numbers(config, 3, 53))


def test_classes_alone_do_not_say_what_is_stuff(tmp_path):
    with pytest.raises(UserError, match='are not its 80 thing_classes and then its 53 stuff_'):
        check(PANOPTIC[1], tmp_path, *with_metainfo(1), *numbers(PANOPTIC[1], 3, 2))


def test_heads_of_things_are_compared_with_things(tmp_path):
    option = 'model.roi_head.bbox_head.num_classes=133'
    with pytest.raises(UserError, match=r'bbox_head .* num_classes=133, but .* has 80 classes'):
        check(PANOPTIC[1], tmp_path, option)


class Listed(Dataset):
    """A data set that is none of mmengine: it has no ``lazy_init``."""

    def __init__(self, names: list[str]) -> None:
        self.names = names


def test_a_data_set_of_another_kind_is_passed_over(shapes, monkeypatch):
    monkeypatch.setitem(DATASETS.module_dict, 'Listed', Listed)
    cfg = load_config(SEGMENTATION, (), shapes)
    cfg.train_dataloader.dataset = dict(type='Listed', names=['a'])
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    check_classes(cfg, model, ('train',))
    assert build_unloaded(cfg.train_dataloader.dataset).names == ['a']


def test_one_class_without_its_comma(shapes):
    option = 'train_dataloader.dataset.metainfo.classes=disk'
    with pytest.raises(UserError, match=r"the string 'disk'; one class is written \('disk',\)"):
        check(DETECTION, shapes, option)


def test_names_that_the_data_set_does_not_have(shapes):
    options = [
        'train_dataloader.dataset.type=ADE20KDataset',
        'train_dataloader.dataset.metainfo.palette=None',
    ]
    with pytest.raises(UserError, match='data set ADE20KDataset, metainfo: new classes'):
        check(SEGMENTATION, shapes, *options)


def test_what_a_transform_refuses_is_no_fault_of_the_class_names(shapes):
    """Its message names a ``<class 'int'>``."""
    cfg = load_config(SEGMENTATION, (), shapes)
    init_default_scope('mmseg')
    node = cfg.train_dataloader.dataset
    node.pipeline[2:] = [{'type': 'RandomFlip', 'prob': 2}]
    with pytest.raises(ValueError, match='probs must be float'):
        build_unloaded(node)
