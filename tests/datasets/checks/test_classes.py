"""Heads against data sets, on models of each task."""

from __future__ import annotations

import pytest
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch.utils.data import Dataset

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from weightformer_mm.config.read import RECIPES, load_config
from weightformer_mm.datasets.checks.classes import build_unloaded, check_classes, classes_of
from weightformer_mm.errors import UserError


def check(config, root, *options, splits=('train', 'val')):
    cfg = load_config(config, options, root)
    init_default_scope(cfg.default_scope)
    check_classes(cfg, MODELS.build(cfg.model), splits)


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


PLACES = {
    'train_dataloader.dataset': 'model.decode_head (UPerHead) has ignore_index=255, but BaseSegDataset',
    'val_dataloader.dataset': 'BaseSegDataset (val_dataloader.dataset) has ignore_index=254',
    'model.decode_head': 'model.decode_head (UPerHead) has ignore_index=254, but',
    'model.auxiliary_head': 'model.auxiliary_head (FCNHead) has ignore_index=254, but',
    'val_evaluator': 'val_evaluator (IoUMetric) has ignore_index=254, but',
}


@pytest.mark.parametrize('place', PLACES)
def test_one_label_is_ignored(place, shapes):
    with pytest.raises(UserError) as error:
        check(SEGMENTATION, shapes, f'{place}.ignore_index=254')
    assert PLACES[place] in str(error.value)
    check(SEGMENTATION, shapes, *(f'{place}.ignore_index=254' for place in PLACES))


def test_a_class_may_be_ignored(shapes):
    heads = [f'model.{head}.ignore_index=0' for head in ('decode_head', 'auxiliary_head')]
    check(SEGMENTATION, shapes, *heads, 'val_evaluator.ignore_index=0')


def test_a_test_needs_no_data_set_of_training(shapes):
    check(SEGMENTATION, shapes, 'train_dataloader.dataset.type=NotThere', splits=('test',))


@pytest.fixture
def folders(tmp_path):
    def make(**classes):
        cfg = load_config(CLASSIFICATION, ())
        for split, names in classes.items():
            for name in names:
                folder = tmp_path / split / name
                folder.mkdir(parents=True)
                (folder / 'x.png').touch()
            node = cfg[f'{split}_dataloader'].dataset
            node.update(data_root='', data_prefix=str(tmp_path / split), ann_file='')
            node.pop('metainfo')
        init_default_scope('mmpretrain')
        return cfg

    return make


@pytest.mark.parametrize(
    ('val', 'number', 'expected'),
    [
        ('abc', 3, None),
        (
            'ac',
            3,
            r'num_classes=3, but .*val_dataloader.dataset\) has 2 classes: a, c; .* a folder of',
        ),
        (
            'abd',
            3,
            r'\(val_.* the classes a, b, d, but .*\(train_.* has a, b, c; give both the same folders',
        ),
        (
            'abc',
            2,
            r'num_classes=2, but .*\(train_dataloader.dataset\) has 3 classes: a, b, c; set num',
        ),
    ],
)
def test_folders_are_classes(val, number, expected, folders):
    cfg = folders(train='abc', val=val)
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = number
    model = MODELS.build(cfg.model)
    if expected is None:
        check_classes(cfg, model, ('train', 'val'))
        names = DATASETS.build(cfg.train_dataloader.dataset).metainfo['classes']
        assert list(names) == [*classes_of(build_unloaded(cfg.train_dataloader.dataset))]
        return
    with pytest.raises(UserError, match=expected):
        check_classes(cfg, model, ('train', 'val'))


PANOPTIC = sorted(RECIPES.glob('coco/*anoptic*.py'))
MASK2FORMER = [
    *RECIPES.glob('coco/mask2former*anoptic*.py'),
    *RECIPES.glob('*/mask2former*ade20k*.py'),
]
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


@pytest.mark.parametrize('config', MASK2FORMER, ids=['panoptic', 'mmseg'])
def test_weights_of_the_classes_are_one_more(config, tmp_path):
    head = 'panoptic_head' if config in PANOPTIC else 'decode_head'
    option = f'model.{head}.loss_cls.class_weight=[1,1,1,1,1,0.1]'
    check(config, tmp_path)
    with pytest.raises(UserError, match=rf'^model\.{head} .* of 6 values; set (134|151), one for'):
        check(config, tmp_path, option)
    check(config, tmp_path, option, splits=('val',))  # an evaluation has no loss


def test_weights_of_a_detector(shapes):
    weights = 'model.roi_head.bbox_head.loss_cls.class_weight'
    check(DETECTION, shapes, f'{weights}={[1.0] * 7}')
    with pytest.raises(UserError, match=r'bbox_head .* of 6 values; set 7, one for each class and'):
        check(DETECTION, shapes, f'{weights}={[1.0] * 6}')
    sigmoid = 'model.roi_head.bbox_head.loss_cls.use_sigmoid=True'
    check(DETECTION, shapes, f'{weights}={[1.0] * 6}', sigmoid)


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


@pytest.mark.parametrize('kind', ['thing_classes', 'stuff_classes'])
def test_one_thing_without_its_comma(kind, tmp_path):
    with pytest.raises(UserError, match=rf"metainfo.{kind} is the string 'car'; .* \('car',\)"):
        check(PANOPTIC[1], tmp_path, f'train_dataloader.dataset.metainfo.{kind}=car')


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
