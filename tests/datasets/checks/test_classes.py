"""Heads against data sets, on models of each task."""

from __future__ import annotations

import pytest
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch.utils.data import Dataset

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from weightformer_mm.config.read import load_config
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
