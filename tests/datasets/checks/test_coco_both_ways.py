"""Faults of annotation files: the check and a training name file, entry and field in the same words."""

from __future__ import annotations

import codecs
import copy
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import cv2
import pytest

from tests.helpers.both_ways import checked, config_for, loaded
from tests.helpers.commands import DETECTION
from weightformer_mm.datasets.checks.coco_uses import Reading
from weightformer_mm.datasets.checks.report import WARNING
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError


def all_of(part, **values):
    return lambda content: [entry.update(values) for entry in content[part]]


def one(part, **values):
    return lambda content: content[part][1].update(values)


def boxes(change):
    def changed(content):
        for entry in content['annotations']:
            entry['bbox'] = change(*entry['bbox'])

    return changed


def as_text(part, key):
    return lambda content: [entry.update({key: str(entry[key])}) for entry in content[part]]


def without(part, key):
    return lambda content: content[part][1].pop(key)


def second_of_a_name(content):
    content['categories'].append({'id': 50, 'name': content['categories'][0]['name']})


TRAIN, VAL = 'train', 'val'
FAULTS = {
    # values of another type
    'image_id as text': (
        TRAIN,
        as_text('annotations', 'image_id'),
        "id 1: `image_id` is '0', not 0",
    ),
    'image_id as text in val': (
        VAL,
        as_text('annotations', 'image_id'),
        "`image_id` is '0', not 0",
    ),
    'id of letters': (VAL, one('images', id='z-1'), "images[1]: `id` is 'z-1', not a whole number"),
    'id of half': (TRAIN, one('images', id=1.5), 'images[1]: `id` is 1.5, not a whole number'),
    'id true': (TRAIN, one('annotations', id=True), '`id` is True, not a whole number'),
    'iscrowd null': (VAL, one('annotations', iscrowd=None), 'id 2: `iscrowd` is null, not 0 or 1'),
    'iscrowd as text': (TRAIN, all_of('annotations', iscrowd='0'), "`iscrowd` is '0', not 0"),
    'ignore as text': (
        TRAIN,
        one('annotations', ignore='false'),
        "`ignore` is 'false', not 0 or 1",
    ),
    'width as text': (TRAIN, one('images', width='64'), "id 1: `width` is '64', not 64"),
    'height 0': (VAL, one('images', height=0), 'id 1: `height` is 0, not a whole number of pixels'),
    'area null': (TRAIN, one('annotations', area=None), '`area` is null, not a finite number'),
    'area NaN': (VAL, one('annotations', area=float('nan')), '`area` is nan, not a finite number'),
    'name a number': (TRAIN, one('categories', name=1), "id 2: `name` is 1, not '1'"),
    'file_name null': (
        TRAIN,
        one('images', file_name=None),
        '`file_name` is null, not non-empty text',
    ),
    'file_name no file can have': (
        TRAIN,
        one('images', file_name='a\0.png'),
        "`file_name` is 'a\\x00.png', not non-empty text",
    ),
    'bbox of text': (
        TRAIN,
        one('annotations', bbox=['1'] * 4),
        "id 2: `bbox` is ['1', '1', '1', '1']",
    ),
    'bbox without end': (
        TRAIN,
        one('annotations', bbox=[0, 0, 1e30, 4]),
        'id 2: `bbox` is [0, 0, 1e+30',
    ),
    'entry null': (TRAIN, lambda c: c['images'].append(None), 'images that are not objects'),
    # what the evaluator needs
    'id 0': (VAL, one('annotations', id=0), '`id` is 0 of 000000.png; number them from 1'),
    'no iscrowd': (
        VAL,
        without('annotations', 'iscrowd'),
        "without 'iscrowd', which the evaluation",
    ),
    'no outline in val': (VAL, without('annotations', 'segmentation'), "no 'segmentation', which"),
    'a line': (
        VAL,
        one('annotations', segmentation=[[1, 2, 3, 4]]),
        'the evaluation cannot use: id 2',
    ),
    'order in val': (
        VAL,
        lambda c: c['categories'].reverse(),
        "'cross' in the file where metainfo has",
    ),
    # outlines
    'no polygon': (
        TRAIN,
        one('annotations', segmentation=[]),
        "no 'segmentation', which with_mask=True",
    ),
    'outline null': (
        TRAIN,
        one('annotations', segmentation=None),
        "no 'segmentation', which with_mas",
    ),
    'flat': (
        TRAIN,
        one('annotations', segmentation=[1, 2, 3, 4, 5, 6]),
        'neither polygons [[x, y, ...]',
    ),
    'polygon of text': (
        TRAIN,
        one('annotations', segmentation=[['1'] * 6]),
        'are not finite numbers: id 2',
    ),
    'runs too short': (
        TRAIN,
        one('annotations', segmentation={'counts': [9], 'size': [64, 64]}),
        'run lengths of another sum than the pixels of the image: id 2: `segmentation`: 9',
    ),
    'runs cut off': (
        TRAIN,
        one('annotations', segmentation={'counts': 'o', 'size': [64, 64]}),
        "run lengths that are damaged: id 2: `segmentation`: 'o'",
    ),
    # references and names
    'no such image': (TRAIN, one('annotations', image_id=99), 'id 2: `image_id` is 99'),
    'no such category': (VAL, one('annotations', category_id=99), 'id 2: `category_id` is 99'),
    'name twice': (TRAIN, second_of_a_name, "twice among the categories of the file: 'disk'"),
    'name with a space': (TRAIN, one('categories', name='ring '), "'ring' (the file has 'ring ')"),
    # nothing to learn from
    'no area': (
        TRAIN,
        all_of('annotations', area=0),
        'no object is left to learn from: of 18 objects',
    ),
    'empty boxes': (
        TRAIN,
        boxes(lambda x, y, w, h: [x, y, 0, 0]),
        'no object is left to learn from',
    ),
    'fractions': (
        TRAIN,
        boxes(lambda *box: [v / 64 for v in box]),
        '18 less than a pixel wide or high',
    ),
    'groups': (
        TRAIN,
        all_of('annotations', iscrowd=1),
        'no object is left to learn from: of 18 objects',
    ),
    'ignored': (TRAIN, all_of('annotations', ignore=1), '18 to be ignored (ignore)'),
    'bad outlines': (
        TRAIN,
        all_of('annotations', segmentation=[[1, 2]]),
        '18 of outlines that mmdet',
    ),
    'corners': (
        TRAIN,
        boxes(lambda x, y, w, h: [x, y, x + w, y + h]),
        'boxes look like x1, y1, x2, y2',
    ),
    'corners in val': (
        VAL,
        boxes(lambda x, y, w, h: [x, y, x + w, y + h]),
        'look like x1, y1, x2, y2',
    ),
    'no annotation': (TRAIN, lambda c: c['annotations'].clear(), 'no object is left to learn from'),
    'no list': (TRAIN, lambda c: c.pop('annotations'), 'no list of annotations to train on'),
    'a dict': (VAL, lambda c: c.update(annotations={}), 'annotations is a dict, not a list'),
    'null': (TRAIN, lambda c: c.update(categories=None), 'categories is null, not a list'),
    'groups in val': (VAL, all_of('annotations', iscrowd=1), 'no object is left to compare with'),
}
FINE = {
    'id 0 of a training set': (TRAIN, one('annotations', id=0)),
    'ids with a point': (TRAIN, one('annotations', image_id=0.0)),
    'iscrowd false': (VAL, one('annotations', iscrowd=False)),
    'no iscrowd in training': (TRAIN, without('annotations', 'iscrowd')),
    'an odd polygon beside a good one': (
        TRAIN,
        one('annotations', segmentation=[[1, 2, 30, 2, 30, 40], [1, 2, 3]]),
    ),
    'a box without area and outline': (
        TRAIN,
        one('annotations', bbox=[5, 5, 0, 0], segmentation=[]),
    ),
    'another category': (TRAIN, lambda c: c['categories'].append({'id': 50, 'name': 'moon'})),
}


class Set:
    def __init__(self, root: Path) -> None:
        self.root, self.cfg = root, config_for(DETECTION, root)

    def file(self, split: str) -> Path:
        return self.root / f'annotations/instances_{split}.json'

    def edit(self, split: str, change) -> None:
        content = json.loads(self.file(split).read_text())
        change(content)
        self.file(split).write_text(json.dumps(content))

    def both_say(self, expected: str, *splits: str) -> str:
        """The training's line; the check has an error with the same text."""
        line = loaded(self.cfg, splits)
        assert line is not None and expected in line
        assert any(expected in error for error in checked(self.cfg, splits))
        return line

    def both_pass(self, *splits: str) -> None:
        assert not checked(self.cfg, splits)
        assert loaded(self.cfg, splits) is None


@pytest.fixture
def own(tiny_set, tmp_path) -> Set:
    return Set(Path(shutil.copytree(tiny_set, tmp_path / 'set')))


@pytest.mark.parametrize('case', FAULTS)
def test_both_name_file_entry_and_field(case, own):
    split, change, expected = FAULTS[case]
    own.edit(split, change)
    line = own.both_say(expected, split)
    assert line.startswith(f'{own.file(split)}: ')


@pytest.mark.parametrize('case', FINE)
def test_both_take_what_the_libraries_take(case, own):
    split, change = FINE[case]
    own.edit(split, change)
    own.both_pass(split)


@pytest.mark.parametrize('filters', [True, False])
def test_nothing_is_left_whether_empty_images_are_or_not(filters, own):
    own.cfg.train_dataloader.dataset.filter_cfg = {'filter_empty_gt': filters}
    own.edit(TRAIN, all_of('annotations', area=0))
    own.both_say('no object is left to learn from', TRAIN)
    own.edit(TRAIN, lambda content: content['annotations'].clear())
    own.both_say('none is left' if filters else 'no object is left to learn from', TRAIN)


def test_images_that_are_too_small(own):
    own.cfg.train_dataloader.dataset.filter_cfg = {'min_size': 65}
    own.both_say('all are smaller than filter_cfg.min_size=65', TRAIN)


def test_a_loader_without_a_batch(own):
    own.cfg.train_dataloader.update(batch_size=8, drop_last=True)
    line = '4 images fill no batch of batch_size=8, and drop_last=True drops the rest'
    assert loaded(own.cfg, (TRAIN,)).startswith(line)
    own.cfg.train_dataloader.sampler = {'type': 'InfiniteSampler'}  # begins anew within a batch
    assert loaded(own.cfg, (TRAIN,)) is None


def test_a_data_set_without_a_file(own):
    own.cfg.train_dataloader.dataset.ann_file = None
    line = own.both_say("data set CocoDataset has no ann_file, a file in COCO's format", TRAIN)
    assert line in checked(own.cfg, (TRAIN,))


@pytest.mark.parametrize('option', ['color_type', 'imdecode_backend'])
def test_a_loading_that_does_not_exist(option, own):
    own.cfg.train_dataloader.dataset.pipeline[0][option] = 'rainbow'
    errors = checked(own.cfg, (TRAIN,))
    assert len(errors) == 4
    assert all('config: LoadImageFromFile: ' in error and 'rainbow' in error for error in errors)


def test_run_lengths_where_only_polygons_are_used(own):
    own.cfg.train_dataloader.dataset.pipeline[1].poly2mask = False  # Shapes has run lengths
    own.both_say('18 of outlines that mmdet cannot use', TRAIN)


def test_unlabelled_images_need_no_annotations(own):
    steps = own.cfg.train_dataloader.dataset.pipeline
    steps[1:] = [{'type': 'LoadEmptyAnnotations', 'with_mask': True}, {'type': 'PackDetInputs'}]
    own.edit(TRAIN, lambda content: content.pop('annotations'))
    assert not checked(own.cfg, (TRAIN,))
    assert len(CheckedRunner.build_dataloader(own.cfg.train_dataloader).dataset) == 4


def test_a_file_of_windows_with_a_mark_at_its_begin(own):
    file = own.file(TRAIN)
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    own.both_pass(TRAIN)
    file.write_bytes(file.read_text('utf-8-sig').encode('utf-16'))
    own.both_say('is not valid JSON', TRAIN)


@pytest.mark.parametrize('text', ['[]', '3', 'null', '', '{"images": [', '[' * 10**5])
def test_what_is_no_annotation_file(text, own):
    own.file(TRAIN).write_text(text)
    assert checked(own.cfg, (TRAIN,))
    assert loaded(own.cfg, (TRAIN,)).startswith(f'{own.file(TRAIN)}')


@pytest.mark.parametrize('split', [TRAIN, VAL])
def test_an_image_of_another_size(split, own):
    image = own.root / f'images/{split}/000001.png'
    cv2.imwrite(str(image), cv2.imread(str(image))[:50])
    line = own.both_say('000001.png', split)
    assert 'of another size than the file states: it is 64x50, not 64x64' in line


@pytest.mark.parametrize('of_several', [False, True])
def test_an_evaluator_of_another_file(of_several, own, tmp_path):
    other = tmp_path / 'other.json'
    content = json.loads(own.file(VAL).read_text())
    content['images'][0]['file_name'] = 'another.png'
    other.write_text(json.dumps(content))
    own.cfg.val_evaluator.ann_file = str(other)
    dataset = own.cfg.val_dataloader.dataset
    if of_several:
        part = dict(dataset, ann_file=str(own.file(TRAIN)), data_prefix={'img': 'images/train/'})
        own.cfg.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset, part])
    files = ' or '.join(map(str, [own.file(VAL), *([own.file(TRAIN)] if of_several else [])]))
    own.both_say(
        f'evaluator: reads another annotation file: {other}, of other images; set its ann_file to that of '
        f'the data set, {files}',
        VAL,
    )


def test_an_evaluator_with_a_file_of_its_own(own, tmp_path):
    other = tmp_path / 'other.json'
    own.edit(VAL, without('annotations', 'iscrowd'))
    own.file(VAL).rename(other)
    shutil.copy(own.file(TRAIN), own.file(VAL))
    shutil.copytree(own.root / 'images/train', own.root / 'images/val', dirs_exist_ok=True)
    own.cfg.val_evaluator.ann_file = str(other)
    assert loaded(own.cfg, (VAL,)).startswith(f"{other}: annotations: without 'iscrowd'")


@pytest.mark.parametrize('kind', [{}, {'type': 'Evaluator'}])
def test_evaluators_in_a_wrapper(kind, own):
    own.cfg.val_evaluator = {**kind, 'metrics': [own.cfg.val_evaluator]}
    own.both_pass(VAL)
    own.cfg.val_evaluator.metrics[0].ann_file = str(own.file(TRAIN))
    own.both_say('evaluator: reads another annotation file', VAL)


def test_an_evaluator_of_the_file_of_a_part(own, tmp_path):
    dataset = own.cfg.val_dataloader.dataset
    part = dict(dataset, ann_file=str(own.file(TRAIN)), data_prefix={'img': 'images/train/'})
    own.cfg.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[part, dataset])
    (tmp_path / 'link.json').symlink_to(own.file(VAL))
    for file in (own.file(VAL), tmp_path / 'link.json'):
        own.cfg.val_evaluator.ann_file = str(file)
        assert not checked(own.cfg, (VAL,))
        runner = object.__new__(CheckedRunner)
        runner.cfg = own.cfg
        CheckedRunner.build_evaluator(runner, own.cfg.val_evaluator)


@pytest.mark.parametrize('split', [VAL, 'test'])
def test_an_evaluation_is_of_the_data_set_of_its_own_split(split, own):
    """Though the evaluators are the same."""
    cfg = own.cfg
    cfg.test_dataloader, cfg.test_evaluator = map(
        copy.deepcopy, (cfg.val_dataloader, cfg.val_evaluator)
    )
    cfg[f'{split}_dataloader'].dataset.ann_file = str(own.file(TRAIN))
    assert any('reads another annotation file' in error for error in checked(cfg, (VAL, 'test')))
    for other in (VAL, 'test'):
        runner = object.__new__(CheckedRunner)
        runner.cfg, runner._split = cfg, other
        with nullcontext() if other != split else pytest.raises(UserError, match='of other images'):
            CheckedRunner.build_evaluator(runner, cfg.val_evaluator)


@pytest.mark.parametrize('key', ['num_batch_per_epoch', 'dataset.indices'])
def test_a_part_of_the_images_that_are_evaluated(key, own):
    own.cfg.merge_from_dict({f'val_dataloader.{key}': 2})
    own.both_pass(VAL)
    own.cfg.merge_from_dict({f'val_dataloader.{key}': 1})
    assert loaded(own.cfg, (VAL,)) is None  # as somebody who tries something wants it
    line = "leave 1 of 2 images: take all, or set the evaluator's ann_file=None and add"
    assert any(line in warning for warning in checked(own.cfg, (VAL,), WARNING))
    own.cfg.val_evaluator.ann_file = None
    steps = own.cfg.val_dataloader.dataset.pipeline
    steps[-1].meta_keys = (*steps[-1].meta_keys, 'instances')
    assert not checked(own.cfg, (VAL,), WARNING)


@pytest.mark.parametrize('split', [TRAIN, VAL])
def test_more_batches_than_there_are(split, own):
    loader = own.cfg[f'{split}_dataloader']
    loader.update(batch_size=2, num_batch_per_epoch=2 if split == TRAIN else 1)
    own.both_pass(split)
    loader.num_batch_per_epoch += 1
    images = 2 * loader.num_batch_per_epoch
    line = f'num_batch_per_epoch, with batch_size=2, takes {images} images, but the data set has {images - 2}'
    assert loaded(own.cfg, (split,)).startswith(line)


def test_categories_in_the_order_of_their_ids():
    """mmdet sorts those of Objects365, whose files differ."""
    content = {
        'images': [{'id': 1, 'width': 9, 'height': 9, 'file_name': 'a.png'}],
        'annotations': [
            {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 5, 5], 'area': 25}
        ],
        'categories': [{'id': 2, 'name': 'b'}, {'id': 1, 'name': 'a'}],
    }
    for is_sorted in (True, False):
        found = Reading(('a', 'b'), is_sorted=is_sorted).findings(content)
        assert any('in another order' in finding.what for finding in found) is not is_sorted
