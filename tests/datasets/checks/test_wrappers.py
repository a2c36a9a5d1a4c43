"""Wrapped data sets: the check and a training see the sets inside, and name a wrapper that does not fit."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from tests.helpers.both_ways import agree, checked, config_for, loaded
from tests.helpers.commands import DETECTION, SEGMENTATION
from weightformer_mm.apis.browse import browse
from weightformer_mm.apis.check_dataset import check_dataset
from weightformer_mm.datasets.checks.report import BadData
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import ArgumentError
from weightformer_mm.utils.translate import explain

TRAIN = ('train',)
MOSAIC = {'type': 'Mosaic', 'img_scale': (64, 64)}
MIXUP = {'type': 'MixUp', 'img_scale': (64, 64)}
PACK = {'type': 'PackDetInputs'}


def concat(*datasets):
    return {'type': 'ConcatDataset', 'datasets': list(datasets)}


def repeat(dataset):
    return {'type': 'RepeatDataset', 'times': 2, 'dataset': dataset}


def balanced(dataset):
    return {'type': 'ClassBalancedDataset', 'oversample_thr': 0.3, 'dataset': dataset}


def mixed(dataset, *steps):
    return {'type': 'MultiImageMixDataset', 'dataset': dataset, 'pipeline': [*steps, PACK]}


@pytest.fixture(params=[DETECTION, SEGMENTATION], ids=['mmdet', 'mmseg'])
def task(request):
    return request.param


@pytest.fixture
def root(tiny_set, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_set, tmp_path / 'set'))


def two(cfg, **metainfo):
    """The training set, and the same with other metainfo."""
    first = cfg.train_dataloader.dataset
    second = copy.deepcopy(first)
    second['metainfo'] = metainfo or {'classes': first.metainfo.classes}  # no colours
    return first, second


WRAPS = {
    'concat': lambda one, other: concat(one, other),
    'concat in repeat': lambda one, other: repeat(concat(one, other)),
    'repeat in concat': lambda one, other: concat(repeat(one), other),
    'concat in concat': lambda one, other: concat(concat(one, other), one),
}


@pytest.mark.parametrize('wrap', WRAPS)
def test_colours_may_differ(wrap, task, root):
    cfg = config_for(task, root)
    cfg.train_dataloader.dataset = WRAPS[wrap](*two(cfg))
    assert not checked(cfg, TRAIN)
    assert loaded(cfg, TRAIN) is None
    dataset = CheckedRunner.build_dataloader(cfg.train_dataloader).dataset
    assert list(dataset.metainfo['classes']) == list(
        two(config_for(task, root))[0].metainfo.classes
    )


def test_colours_that_are_none(root, tmp_path):
    cfg = config_for(SEGMENTATION, root)
    cfg.train_dataloader.dataset = concat(*two(cfg, palette=None))
    cfg.dump(tmp_path / 'config.py')
    said = 'config: train_dataloader.dataset.datasets.1: metainfo.palette is None; give a colour'
    for end in (lambda path: check_dataset(path, TRAIN), lambda path: browse(path, f'{path}.png')):
        with pytest.raises(Exception) as error:  # noqa: PT011  whose line is what the command prints
            end(str(tmp_path / 'config.py'))
        assert str(explain(error.value)).startswith(said)


def test_an_evaluation_of_two_sets(root):
    cfg = config_for(DETECTION, root)
    one = cfg.val_dataloader.dataset
    other = copy.deepcopy(one)
    other['metainfo'] = {'classes': one.metainfo.classes}
    cfg.val_dataloader.dataset = concat(one, other)
    assert not checked(cfg, ('val',))
    assert loaded(cfg, ('val',)) is None


def own_pipeline(*steps):
    def wrap(one, other):
        one['pipeline'] = [*one['pipeline'][:2], *steps, *one['pipeline'][2:]]
        return repeat(one)

    return wrap


def mixed_masks(one, other):
    one['pipeline'] = one['pipeline'][:2]
    return mixed(one, MOSAIC)


MISFITS = {
    'Mosaic alone': (own_pipeline(MOSAIC), 'Mosaic mixes several images, which only MultiImageMix'),
    'MixUp inside another': (
        own_pipeline({'type': 'RandomApply', 'transforms': [MIXUP]}),
        'dataset.pipeline.2: put it into the pipeline of one around CocoDataset',
    ),
    'CopyPaste alone': (own_pipeline({'type': 'CopyPaste'}), 'CopyPaste mixes several images'),
    'Mosaic of masks': (mixed_masks, 'Mosaic mixes boxes, but no masks: '),
    'packed too early': (
        lambda one, other: mixed(one, MOSAIC),
        'PackDetInputs comes before MultiImageMixDataset mixes: ',
    ),
    'balance of two': (
        lambda one, other: balanced(concat(one, other)),
        'dataset is ConcatDataset; put it around each data set inside',
    ),
}


@pytest.mark.parametrize('case', MISFITS)
def test_wrappers_that_do_not_fit_are_named(case, root):
    cfg = config_for(DETECTION, root)
    wrap, expected = MISFITS[case]
    cfg.train_dataloader.dataset = wrap(*two(cfg))
    assert expected in loaded(cfg, TRAIN)
    assert any(expected in error for error in checked(cfg, TRAIN))


def test_a_wrapper_that_does_not_fit_is_named_with_its_place(root, tmp_path):
    cfg = config_for(DETECTION, root)
    cfg.train_dataloader.dataset = own_pipeline(MOSAIC)(*two(cfg))
    (error,) = checked(cfg, TRAIN)
    assert ': train_dataloader.dataset.dataset.pipeline.2: put it into' in error
    cfg.dump(tmp_path / 'config.py')
    with pytest.raises(ArgumentError) as error:
        browse(str(tmp_path / 'config.py'), str(tmp_path / 'sheet.png'))
    said = str(explain(error.value))
    assert said.startswith('config: train_dataloader: wrappers: Mosaic mixes several images')
    assert ': dataset.dataset.pipeline.2: put it into' in said


def without_packing_at_all(one, other):
    one['pipeline'] = one['pipeline'][:2]
    return one


def wrong_probability(one, other):
    one['pipeline'] = [one['pipeline'][0], {'type': 'LoadAnnotations', 'with_bbox': True}]
    return mixed(one, {**MOSAIC, 'prob': 2})


LOADERS = {
    'unknown': (lambda one, other: {**repeat(one), 'type': 'Repeet'}, "type='Repeet' is not in"),
    'lacking': (lambda one, other: {'type': 'RepeatDataset', 'dataset': one}, "argument: 'times'"),
    'a key too many': (
        lambda one, other: {**repeat(one), 'often': 2},
        "config: train_dataloader.dataset: RepeatDataset got an unexpected key 'often'",
    ),
    'wrong option': (
        wrong_probability,
        'config: train_dataloader.dataset.pipeline.0: The probability should be in range [0,1]. got 2',
    ),
    'unpacked': (without_packing_at_all, "samples without 'inputs', which a model needs"),
}


@pytest.mark.parametrize('case', LOADERS)
def test_what_no_loader_can_be_made_of(case, root, tmp_path, capsys):
    """It is none of the data: a training finds it first, and so does the check where all else is well."""
    cfg = config_for(DETECTION, root)
    wrap, expected = LOADERS[case]
    cfg.train_dataloader.dataset = wrap(*two(cfg))
    cfg.dump(tmp_path / 'config.py')
    with pytest.raises(BadData):
        check_dataset(str(tmp_path / 'config.py'), TRAIN)
    assert expected in capsys.readouterr().out.partition('error: data loader: ')[2]
    with pytest.raises(Exception) as error:  # noqa: PT011  whose line is what the command prints
        browse(str(tmp_path / 'config.py'), str(tmp_path / 'sheet.png'))
    assert expected in str(explain(error.value))


@pytest.mark.parametrize('step', [None, {'type': 'CachedMosaic', 'img_scale': (64, 64)}])
def test_what_needs_no_wrapper(step, root):
    cfg = config_for(DETECTION, root)
    cfg.train_dataloader.dataset = balanced(cfg.train_dataloader.dataset)
    if step:
        steps = cfg.train_dataloader.dataset['dataset'].pipeline
        steps[2:-1] = [{**step, 'max_cached_images': 4}]
    assert not checked(cfg, TRAIN)
    assert loaded(cfg, TRAIN) is None


def test_mosaic_with_its_wrapper(root):
    cfg = config_for(DETECTION, root)
    one = cfg.train_dataloader.dataset
    one['pipeline'] = [one.pipeline[0], {'type': 'LoadAnnotations', 'with_bbox': True}]
    cfg.train_dataloader.dataset = mixed(concat(*two(cfg)), MOSAIC)
    assert not checked(cfg, TRAIN)
    assert loaded(cfg, TRAIN) is None


def test_two_sets_with_other_classes(task, root):
    cfg = config_for(task, root)
    classes = list(cfg.train_dataloader.dataset.metainfo.classes)
    cfg.train_dataloader.dataset = concat(*two(cfg, classes=classes[::-1]))
    expected = f'datasets.1: {", ".join(classes[::-1])}; '
    assert expected in loaded(cfg, TRAIN)
    assert any(expected in error for error in checked(cfg, TRAIN))


def file_of(root: Path, name: str, **changes) -> str:
    content = json.loads((root / 'annotations/instances_train.json').read_text())
    (root / 'annotations' / name).write_text(json.dumps({**content, **changes}))
    return f'annotations/{name}'


@pytest.mark.parametrize('both', [False, True])
def test_images_without_objects_may_stand_beside_others(both, root):
    cfg = config_for(DETECTION, root)
    one, other = two(cfg)
    other['ann_file'] = file_of(root, 'empty.json', annotations=[])
    if both:
        one['ann_file'] = file_of(root, 'more.json', annotations=[])
    cfg.train_dataloader.dataset = concat(one, other)
    assert bool(checked(cfg, TRAIN)) == both
    line = loaded(cfg, TRAIN)
    assert line is None if not both else 'no object is left to learn from' in line


def test_a_set_of_groups_beside_another(root):
    cfg = config_for(DETECTION, root)
    one, other = two(cfg)
    content = json.loads((root / 'annotations/instances_train.json').read_text())
    groups = [{**entry, 'iscrowd': 1} for entry in content['annotations']]
    other['ann_file'] = file_of(root, 'groups.json', annotations=groups)
    cfg.train_dataloader.dataset = concat(one, other)
    assert 'groups.json: annotations: no object is left' in loaded(cfg, TRAIN)
    assert any('no object is left' in error for error in checked(cfg, TRAIN))


def test_semi_supervised(root):
    """Images without a list of annotations, to which a teacher gives labels, beside labelled ones."""
    cfg = config_for(DETECTION, root)
    one, other = two(cfg)
    content = json.loads((root / 'annotations/instances_train.json').read_text())
    del content['annotations']
    content['categories'] = []
    (root / 'annotations/unlabelled.json').write_text(json.dumps(content))
    other['ann_file'] = 'annotations/unlabelled.json'
    other['pipeline'] = [one.pipeline[0], {'type': 'LoadEmptyAnnotations', 'with_mask': True}, PACK]
    sampler = {'type': 'MultiSourceSampler', 'batch_size': 4, 'source_ratio': [1, 1]}
    cfg.train_dataloader.batch_size, cfg.train_dataloader.sampler = 4, sampler
    cfg.train_dataloader.dataset = concat(one, other)
    assert not checked(cfg, TRAIN)
    assert loaded(cfg, TRAIN) is None


def some_set(cfg, draw: random.Random):
    """The training set or a copy that differs from it, for better or worse."""
    node, classes = copy.deepcopy(cfg.train_dataloader.dataset), cfg.metainfo['classes']
    metas = [cfg.metainfo, {'classes': classes}, {'classes': classes, 'palette': [(9, 9, 9)] * 9}]
    metas += [{'classes': classes, 'season': 'winter'}]
    if draw.random() < 0.1:
        metas = [{'classes': classes[::-1]}, {'classes': classes[:-1]}]
    node['metainfo'] = draw.choice(metas)
    steps = [MOSAIC, {'type': 'CachedMosaic', 'img_scale': (64, 64), 'max_cached_images': 4}]
    is_det = cfg.default_scope == 'mmdet'
    if is_det and draw.random() < 0.4:  # boxes alone, which can be mixed
        node['pipeline'] = [
            node['pipeline'][0],
            {'type': 'LoadAnnotations', 'with_bbox': True},
            *([draw.choice(steps)] if draw.random() < 0.3 else []),
            PACK,
        ]
    return node


def wrapped(cfg, draw: random.Random, depth: int):
    """A set in wrappers of every kind, up to ``depth`` of them around each other."""
    if depth == 0:
        return some_set(cfg, draw)
    is_det = cfg.default_scope == 'mmdet'
    kind = draw.choice(['repeat', 'concat', 'concat', 'concat', 'balanced', 'mixed'])
    if kind == 'concat':
        count, ignored = draw.choice([1, 2, 3]), draw.choice([None, 'palette', ['season']])
        node = concat(*(wrapped(cfg, draw, draw.randrange(depth)) for _ in range(count)))
        return node if ignored is None else {**node, 'ignore_keys': ignored}
    inner = wrapped(cfg, draw, depth - 1)
    if kind == 'mixed' and draw.random() < 0.8:
        without_packing(inner)
    if kind == 'repeat' or not is_det:
        return repeat(inner)
    return balanced(inner) if kind == 'balanced' else mixed(inner, draw.choice([MOSAIC, MIXUP]))


def without_packing(node) -> None:
    """Leave out what no image that is still to be mixed can go through."""
    steps = node.get('pipeline', [])
    node['pipeline'] = [step for step in steps if step['type'] != 'PackDetInputs']
    for inner in (*node.get('datasets', []), *filter(None, [node.get('dataset')])):
        without_packing(inner)
    if not steps:
        del node['pipeline']


def test_both_agree_on_wrappers(task, root):
    cfg = config_for(task, root)
    original = copy.deepcopy(cfg.train_dataloader.dataset)
    cfg.metainfo = dict(original.metainfo)
    counts: Counter[str] = Counter()
    for seed in range(160):
        draw = random.Random(seed)
        cfg.train_dataloader.dataset = original
        node = wrapped(cfg, draw, draw.choice([1, 2, 3]))
        cfg.train_dataloader.dataset = node
        try:
            counts[agree(cfg, 'train')] += 1
        except BaseException as error:
            raise AssertionError(f'seed {seed}: {shape(node)}') from error
    print(f'wrappers of {cfg.default_scope}: {dict(counts)}')
    assert min(counts['learns'], counts['refused']) > 8


def shape(node) -> str:
    inner = node.get('datasets') or ([node['dataset']] if 'dataset' in node else [])
    return f'{node["type"]}({", ".join(map(shape, inner))})' if inner else node['type']


BOX = (
    '<object><name>disk</name><bndbox>{}<ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>'
    '</annotation>'
)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('<object><name>disk</name><bndbox>', 'is not valid XML: '),
        (BOX.format(''), 'Annotations/000000.xml cannot be read: AttributeError: '),
        (BOX.format('<xmin>a</xmin>'), 'Annotations/000000.xml: could not convert string to float'),
        ('<object><name>moon</name></object></annotation>', 'no object is left to learn from'),
    ],
)
def test_sets_of_other_formats_are_read_as_they_are(text, expected, root):
    """They are not checked, which the check says; what stops their reader is one line."""
    (root / 'Annotations').mkdir()
    size = '<annotation><size><width>64</width><height>64</height></size>'
    (root / 'Annotations/000000.xml').write_text(size + text)
    (root / 'list.txt').write_text('000000\n')
    (root / 'JPEGImages').mkdir()
    shutil.copy(root / 'images/train/000000.png', root / 'JPEGImages/000000.jpg')
    cfg = config_for(DETECTION, root)
    init_default_scope('mmdet')
    cfg.train_dataloader.dataset.update(
        type='VOCDataset', ann_file='list.txt', data_prefix={'sub_data_root': ''}
    )
    assert expected in loaded(cfg, TRAIN)
    assert any(expected in error for error in checked(cfg, TRAIN))
