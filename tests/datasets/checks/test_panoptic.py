"""Files in COCO's panoptic format: the check and a training judge them by the same rules."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.miniatures.coco_panoptic import write_segments
from tests.helpers.annotation_mutations import BOXES, VALUES, spoil_values
from tests.helpers.both_ways import SPLITS, agree, checked, config_for, loaded
from tests.helpers.commands import DETECTION

TRAIN, VAL = SPLITS
VARIANTS = 160
KEYS = {
    'images': ('id', 'width', 'height', 'file_name'),
    'annotations': ('image_id', 'segments_info'),
    'segments_info': ('id', 'category_id', 'iscrowd', 'bbox', 'area'),
    'categories': ('id', 'name', 'isthing', 'supercategory'),
}


class Set:
    """The objects of a set as rectangles, and ground between them."""

    def __init__(self, root: Path) -> None:
        self.root, self.cfg = root, config_for(DETECTION, root)
        for split in SPLITS:
            source = json.loads((root / f'annotations/instances_{split}.json').read_text())
            (root / f'panoptic_{split}').mkdir()
            self.write(split, self.segmented(split, source))
            self.names = [entry['name'] for entry in source['categories']]
            self.use(split)

    def file(self, split: str) -> Path:
        return self.root / f'annotations/panoptic_{split}.json'

    def write(self, split: str, content: dict) -> None:
        self.file(split).write_text(json.dumps(content))

    def edit(self, split: str, change) -> None:
        content = json.loads(self.file(split).read_text())
        change(content)
        self.write(split, content)

    def segmented(self, split: str, source: dict) -> dict:
        categories = [{**entry, 'isthing': 1} for entry in source['categories']]
        ground = {'id': 200, 'name': 'ground', 'isthing': 0}
        entries = []
        for image in source['images']:
            numbers = np.full((image['height'], image['width']), 1000, np.int32)
            kinds = {1000: (200, 0)}
            for entry in source['annotations']:
                if entry['image_id'] == image['id']:
                    x, y, width, height = map(round, entry['bbox'])
                    number = 1000 * (len(kinds) + 1)
                    numbers[y : y + height, x : x + width] = number
                    kinds[number] = entry['category_id'], entry['iscrowd']
            segments = []
            for number, (category, crowd) in kinds.items():
                mask = (numbers == number).astype(np.uint8)
                segments.append(
                    {
                        'id': number,
                        'category_id': category,
                        'iscrowd': crowd,
                        'bbox': list(cv2.boundingRect(mask)),
                        'area': int(mask.sum()),
                    }
                )
            write_segments(self.labels(split, image), numbers)
            entries.append({'image_id': image['id'], 'segments_info': segments})
        return {
            'images': source['images'],
            'annotations': entries,
            'categories': [*categories, ground],
        }

    def labels(self, split: str, image: dict) -> Path:
        return self.root / f'panoptic_{split}' / image['file_name'].replace('.jpg', '.png')

    def use(self, split: str) -> None:
        dataset, folder = self.cfg[f'{split}_dataloader'].dataset, f'panoptic_{split}'
        keys = ('img_id', 'img_path', 'ori_shape', 'segments_info', 'seg_map_path')
        dataset.update(
            type='CocoPanopticDataset',
            ann_file=f'annotations/panoptic_{split}.json',
            metainfo=dict(
                classes=(*self.names, 'ground'),
                thing_classes=tuple(self.names),
                stuff_classes=('ground',),
            ),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadPanopticAnnotations'),
                dict(type='PackDetInputs', meta_keys=keys),
            ],
        )
        dataset.data_prefix['seg'] = f'{folder}/'
        if split == VAL:
            self.cfg.val_evaluator = dict(
                type='CocoPanopticMetric',
                ann_file=str(self.file(VAL)),
                seg_prefix=str(self.root / folder),
            )

    def both_say(self, expected: str, split: str) -> None:
        line = loaded(self.cfg, (split,))
        assert line is not None and expected in line, line
        errors = checked(self.cfg, (split,))
        assert any(expected in error for error in errors), errors


@pytest.fixture
def own(tiny_set, tmp_path) -> Set:
    return Set(Path(shutil.copytree(tiny_set, tmp_path / 'set')))


def segment(**values):
    return lambda content: content['annotations'][0]['segments_info'][0].update(values)


def all_segments(**values):
    def change(content):
        for entry in content['annotations']:
            for one in entry['segments_info']:
                one.update(values)

    return change


def other_category(content):
    content['categories'].append({'id': 99, 'name': 'sky', 'isthing': 0})
    content['annotations'][0]['segments_info'][0]['category_id'] = 99


def repeat_segment(content):
    content['annotations'][0]['segments_info'].append(content['annotations'][0]['segments_info'][0])


FAULTS = {
    'number of a segment as text': (
        TRAIN,
        segment(id='1000'),
        "of image 0: `id` is '1000', not 1000",
    ),
    'category as text': (TRAIN, segment(category_id='x'), "`category_id` is 'x'"),
    'no such category': (TRAIN, segment(category_id=77), 'of a category that is not in the file'),
    'a box of three numbers': (TRAIN, segment(bbox=[1, 2, 3]), 'four finite numbers'),
    'no area': (TRAIN, segment(area=None), '`area` is null'),
    'no list of segments': (
        TRAIN,
        lambda c: c['annotations'][1].update(segments_info=None),
        'annotations[1]: `segments_info` is null, not a list of segments',
    ),
    'a segment that is no dict': (
        TRAIN,
        lambda c: c['annotations'][0]['segments_info'].append(3),
        'segments_info that are not objects',
    ),
    'image as text': (TRAIN, lambda c: c['annotations'][0].update(image_id='1'), "is '1', not 1"),
    'no such image': (
        TRAIN,
        lambda c: c['annotations'][0].update(image_id=77),
        '`image_id` is 77',
    ),
    'a number twice in an image': (TRAIN, repeat_segment, 'id twice in segments_info: 1000 of im'),
    'what is a thing is not said': (
        TRAIN,
        lambda c: c['categories'][0].pop('isthing'),
        "categories without 'isthing'",
    ),
    'another thing': (
        TRAIN,
        lambda c: c['categories'][-1].update(isthing=1),
        "'ground': `isthing` is 1",
    ),
    'in another order': (
        TRAIN,
        lambda c: c['categories'].reverse(),
        'in another order than in the file',
    ),
    'a category that the data set does not know': (
        TRAIN,
        lambda c: c['categories'][-1].update(name='sky'),
        "'ground'",
    ),
    'a segment of a category that the data set does not know': (
        TRAIN,
        other_category,
        "of a category that is not in metainfo.classes: id 1000: 'sky'",
    ),
    'nothing is left': (TRAIN, all_segments(area=0), 'is left'),
    'nothing to compare with': (
        VAL,
        lambda c: [entry.update(segments_info=[]) for entry in c['annotations']],
        'no thing is there to compare with',
    ),
    'void': (VAL, segment(id=0), 'with id 0'),
    'no flag': (
        VAL,
        lambda c: c['annotations'][0]['segments_info'][0].pop('iscrowd'),
        "without 'iscrowd'",
    ),
}


def test_a_sound_file(own):
    for split in SPLITS:
        assert agree(own.cfg, split) == 'learns'


@pytest.mark.parametrize('case', FAULTS)
def test_both_name_file_entry_and_field(case, own):
    split, change, expected = FAULTS[case]
    own.edit(split, change)
    own.both_say(expected, split)


@pytest.mark.parametrize('split', SPLITS)
def test_things_without_names(split, own):
    own.cfg[f'{split}_dataloader'].dataset.metainfo.thing_classes = None
    own.both_say('things in the file alone, or in metainfo.thing_classes alone', split)


def test_a_second_evaluator_may_read_the_file_of_objects(own):
    second = dict(type='CocoMetric', ann_file=str(own.root / 'annotations/instances_val.json'))
    own.cfg.val_evaluator = [own.cfg.val_evaluator, second]
    assert not checked(own.cfg, (VAL,))


@pytest.mark.parametrize('damage', ['missing', 'small', 'no image'])
def test_label_images(damage, own):
    images = json.loads(own.file(TRAIN).read_text())['images']
    path = own.labels(TRAIN, images[1])
    if damage == 'missing':
        path.unlink()
    elif damage == 'small':
        write_segments(path, np.ones((8, 9), np.int32))
    else:
        path.write_bytes(b'no image')
    own.both_say(path.name, TRAIN)


def test_both_agree_on_mutated_files(own):
    contents = {split: json.loads(own.file(split).read_text()) for split in SPLITS}
    counts: Counter[str] = Counter()
    for seed in range(VARIANTS):
        draw = random.Random(seed)
        split = draw.choice(SPLITS)
        content = copy.deepcopy(contents[split])
        done = spoil(content, draw)
        own.write(split, content)
        try:
            counts[agree(own.cfg, split)] += 1
        except BaseException as error:
            raise AssertionError(f'seed {seed} of {split}: {done}') from error
        own.write(split, contents[split])
    print(f'panoptic: {dict(counts)}')
    assert min(counts['learns'], counts['refused']) > VARIANTS // 10


def spoil(content: dict, draw: random.Random) -> tuple:
    part = draw.choice([*KEYS, 'segments_info'])
    key, value = draw.choice(KEYS[part]), draw.choice(VALUES)
    if key == 'bbox':
        value = draw.choice(BOXES)
    if part == 'segments_info':
        entries = [one for entry in content['annotations'] for one in entry[part]]
    else:
        entries = content[part]
    spoil_values(entries, key, value, draw)
    return part, key, value
