"""Ways in which annotation files and label images of users are wrong, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

INF, NAN = float('inf'), float('nan')
VALUES = [None, True, False, 0, 1, -1, 2.5, 1.0, 1e12, 10**30, NAN, INF, '', '1', '0', '1.5', 'z-1']
VALUES += [' 1', 'null', [], [1], [None], [[1]], {}]
KEYS = {
    'images': ('id', 'width', 'height', 'file_name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'ignore'),
    'categories': ('id', 'name', 'supercategory'),
}
BOXES = [[1, 2, 3], [1, 2, 3, 4, 5], ['1', '2', '3', '4'], [1, 2, None, 4], [[1, 2], [3, 4]], 'box']
BOXES += [[0, 0, 0, 0], [5, 5, -3, 4], [1e7, 0, 2, 2], [True, 1, 5, 5], [10, 10, 20, 20], {'x': 1}]
BOXES += [[1e5, 1e5, 9, 9], [-5, -5, 200, 200], [63.5, 2, 4, 4], [NAN, 0, 5, 5]]
TRIANGLE = [1, 2, 30, 2, 30, 40]
POLYGONS = [None, [], [[]], TRIANGLE, [[1, 2]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], 'poly', 5, True]
POLYGONS += [[[*TRIANGLE, 7]], [[*map(str, TRIANGLE)]], [[1, 2, 3, 4, 5, None]], [TRIANGLE, [1, 2]]]
POLYGONS += [[[1, 2], TRIANGLE], [[1, 2, 3, 4], TRIANGLE], [TRIANGLE, 'x'], [{'x': 1}], [None]]
POLYGONS += [
    [[[1, 2], [3, 4], [5, 6]]],
    [[1e9, 0, 1e9, 5, 3, 3]],
    [[NAN, 0, 3, 5, 3, 3]],
    [TRIANGLE],
]
COUNTS = [[9], [4096], [0, 4096], [100, 3996], [-4, 4100], [1.5, 4094.5], 'abc', '', 'f', None, {}]
SIZES = [[64, 64]] * 4 + [['64', '64'], [64.0, 64.0], [32, 128], None]


def wrong_value(content: dict, draw: random.Random) -> None:
    """A value of another type, or a key that is missing, in one entry or in all of its kind."""
    part = draw.choice(['images', 'annotations', 'annotations', 'annotations', 'categories'])
    spoil_values(content[part], draw.choice(KEYS[part]), draw.choice(VALUES), draw)


def spoil_values(entries: list[dict], key: str, value: Any, draw: random.Random) -> None:
    """Take a key away, write its number as text or as a float, or give it a value; in one entry or in all."""
    way = draw.random()
    for entry in entries if draw.random() < 0.35 else [draw.choice(entries)]:
        if way < 0.15:
            entry.pop(key, None)
        elif way < 0.45 and type(entry.get(key)) in (int, float):
            entry[key] = draw.choice([str, float])(entry[key])
        else:
            entry[key] = value


def wrong_box(content: dict, draw: random.Random) -> None:
    _in_some(content, draw, 'bbox', draw.choice(BOXES))


def wrong_polygons(content: dict, draw: random.Random) -> None:
    _in_some(content, draw, 'segmentation', draw.choice(POLYGONS))


def wrong_run_lengths(content: dict, draw: random.Random) -> None:
    runs = {'counts': draw.choice(COUNTS), 'size': draw.choice(SIZES)}
    _in_some(content, draw, 'segmentation', runs)


def wrong_flag(content: dict, draw: random.Random) -> None:
    value = draw.choice([0, 1, True, False, None, '0', '1', 2, 0.0])
    _in_some(content, draw, draw.choice(['iscrowd', 'ignore']), value)


def _in_some(content: dict, draw: random.Random, key: str, value: Any) -> None:
    entries = content['annotations']
    for entry in entries if draw.random() < 0.35 else [draw.choice(entries)]:
        entry[key] = value


def wrong_list(content: dict, draw: random.Random) -> None:
    part, value = draw.choice(list(KEYS)), draw.choice([*VALUES, 'none'])
    content[part] = value
    if value == 'none':
        del content[part]


def wrong_categories(content: dict, draw: random.Random) -> None:
    entries = content['categories']
    first = entries[0]
    ways: list[Callable] = [
        entries.reverse,
        lambda: draw.shuffle(entries),
        lambda: entries.append(dict(first)),
        lambda: entries.append(dict(first, id=99)),
        lambda: entries.pop(draw.randrange(len(entries))),
        lambda: first.update(
            name=draw.choice(['moon', first['name'].upper(), first['name'] + ' '])
        ),
        lambda: entries.append({'id': draw.choice([0, 77]), 'name': 'moon'}),
        lambda: first.update(id=entries[1]['id']),
    ]
    draw.choice(ways)()


def wrong_entries(content: dict, draw: random.Random) -> None:
    part = draw.choice(list(KEYS))
    images, annotations = content['images'], content['annotations']
    ways: list[Callable] = [
        lambda: content[part].append(draw.choice([None, 3, 'x', []])),
        lambda: content[part].append(dict(content[part][0])),
        lambda: annotations[0].update(image_id=987),
        lambda: annotations[0].update(category_id=987),
        lambda: images.pop(0),
        lambda: annotations[-1].update(id=0),
        lambda: annotations[-1].update(id=draw.choice([-5, 2**53 + 1, 2**62, 2**70])),
        lambda: [entry.update(id=number) for number, entry in enumerate(annotations)],
    ]
    draw.choice(ways)()


def wrong_everywhere(content: dict, draw: random.Random) -> None:
    """What one mistake in a converter does to all annotations."""
    ways: list[Callable] = [
        lambda e, x, y, w, h: e.update(area=0),
        lambda e, x, y, w, h: e.update(bbox=[x, y, x + w, y + h]),
        lambda e, x, y, w, h: e.update(bbox=[x, y, 0, 0]),
        lambda e, x, y, w, h: e.update(bbox=[x / 64, y / 64, w / 64, h / 64]),
        lambda e, x, y, w, h: e.update(iscrowd=1),
        lambda e, x, y, w, h: e.update(image_id=str(e['image_id'])),
        lambda e, x, y, w, h: e.update(image_id=float(e['image_id'])),
        lambda e, x, y, w, h: e.pop('segmentation'),
    ]
    change = draw.choice(ways)
    for entry in content['annotations']:
        change(entry, *entry['bbox'])
    if draw.random() < 0.1:
        content['annotations'].clear()


SPOILED: list[Callable] = [
    lambda e, x, y, w, h: e.update(area=0),
    lambda e, x, y, w, h: e.update(area=-1.5),
    lambda e, x, y, w, h: e.update(bbox=[x, y, 0, h]),
    lambda e, x, y, w, h: e.update(bbox=[x, y, w, 0.9]),
    lambda e, x, y, w, h: e.update(bbox=[x, y, -w, -h]),
    lambda e, x, y, w, h: e.update(bbox=[x + 64, y, w, h]),
    lambda e, x, y, w, h: e.update(bbox=[x, y - 500, w, h]),
    lambda e, x, y, w, h: e.update(bbox=[v / 64 for v in (x, y, w, h)]),
    lambda e, x, y, w, h: e.update(iscrowd=1),
    lambda e, x, y, w, h: e.update(ignore=1),
    lambda e, x, y, w, h: e.update(segmentation=[[1, 2, 3, 4]]),
    lambda e, x, y, w, h: e.update(segmentation=[[*TRIANGLE, 7]]),
]


def spoil(content: dict, draw: random.Random) -> int:
    """Make objects useless to a training, in one way or in many; returns how many are as they were."""
    ways = [draw.choice(SPOILED)] if draw.random() < 0.5 else SPOILED
    spared = draw.choice([0, 0, 1, 2, 5])
    entries = content['annotations']
    for entry in draw.sample(entries, len(entries) - spared):
        draw.choice(ways)(entry, *entry['bbox'])
    if not spared and draw.random() < 0.15:
        entries.clear()
    if draw.random() < 0.2:  # what is left may belong to the images that go
        content['images'] = draw.sample(content['images'], 2)
        kept = {image['id'] for image in content['images']}
        entries[:] = [entry for entry in entries if entry['image_id'] in kept]
    return spared


# groups of mutations of a COCO file of 64x64 pixels: of its values, and of what it says
COCO = {
    'values': [wrong_value, wrong_value, wrong_box, wrong_flag],
    'rules': [
        wrong_polygons,
        wrong_run_lengths,
        wrong_list,
        wrong_categories,
        wrong_entries,
        wrong_everywhere,
    ],
}


def wrong_labels(root: Path, split: str, draw: random.Random) -> None:
    """Damage label images of Shapes, or their images."""
    pairs = [(path, root / f'images/{split}' / path.name) for path in label_files(root, split)]
    change = draw.choice(LABELS)
    for label, image in pairs if draw.random() < 0.3 else [draw.choice(pairs)]:
        change(label, image, np.array(Image.open(label)), draw)


def label_files(root: Path, split: str) -> list[Path]:
    return sorted((root / f'annotations/{split}').glob('*.png'))


def _one_pixel(label: Path, image: Path, values: np.ndarray, draw: random.Random) -> None:
    place = tuple(draw.randrange(side) for side in values.shape)
    values[place] = draw.choice([0, 1, 6, 7, 8, 9, 100, 128, 254, 255])
    _save(label, values)


def _cut(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data))])


def _save(path: Path, values: np.ndarray, form: str = 'PNG') -> None:
    Image.fromarray(values).save(path, form)


LABELS: list[Callable[[Path, Path, np.ndarray, random.Random], Any]] = [
    _one_pixel,
    _one_pixel,
    lambda p, i, v, d: _save(p, np.full_like(v, d.choice([0, 255, 1, 7, 8, 200]))),
    lambda p, i, v, d: _save(p, np.full_like(v, d.choice([0, 255]))),
    lambda p, i, v, d: _save(p, v[: d.randrange(1, 64), : d.randrange(1, 64)].copy()),
    lambda p, i, v, d: _save(p, v[:, :50].T.copy()),
    lambda p, i, v, d: _save(p, np.stack([v] * d.choice([2, 3, 4]), -1)),
    lambda p, i, v, d: _save(p, v.astype(np.uint16) + d.choice([0, 256])),
    lambda p, i, v, d: _save(p, v.astype(np.int32), 'TIFF'),
    lambda p, i, v, d: _save(p, v, d.choice(['TIFF', 'BMP'])),
    lambda p, i, v, d: _save(p, v > 0),
    lambda p, i, v, d: _save(p, v),
    lambda p, i, v, d: _cut(d.choice([p, i]), d),
    lambda p, i, v, d: d.choice([p, i]).write_bytes(d.choice([b'', b'none' * 9])),
    lambda p, i, v, d: d.choice([p, i]).unlink(),
    lambda p, i, v, d: cv2.imwrite(str(i), cv2.imread(str(i))[:40]),
    lambda p, i, v, d: p.rename(p.with_suffix('.PNG')),
]
