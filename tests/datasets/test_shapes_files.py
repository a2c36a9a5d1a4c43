"""The files of a set: COCO JSON and label PNGs agree with each other and with the pictures."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from weightformer_mm.datasets import ShapesConfig
from weightformer_mm.datasets import make_shapes as make
from weightformer_mm.datasets.shapes.classes import CLASSES
from weightformer_mm.datasets.shapes.scene import render_sample

CONFIG = ShapesConfig(train=6, val=3, size=96, seed=11)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('shapes') / 'set'
    assert make(out, CONFIG, progress=False)
    return out


@pytest.fixture(scope='module', params=['train', 'val'])
def split(request):
    return request.param


@pytest.fixture(scope='module')
def coco(folder, split):
    return COCO(str(folder / 'annotations' / f'instances_{split}.json'))


def read_labels(folder, split, name):
    return cv2.imread(str(folder / 'annotations' / split / name), cv2.IMREAD_UNCHANGED)


def test_layout_of_the_folder(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
    expected = {'manifest.json', 'GENERATED.txt'}
    for split, count in (('train', 6), ('val', 3)):
        expected.add(f'annotations/instances_{split}.json')
        for kind in ('images', 'annotations'):
            expected |= {f'{kind}/{split}/{index:06d}.png' for index in range(count)}
    assert names == expected


def test_pictures_are_the_samples(folder, split):
    for index in range(getattr(CONFIG, split)):
        sample = render_sample(CONFIG.seed, split, index, CONFIG.size)
        name = f'{index:06d}.png'
        image = cv2.imread(str(folder / 'images' / split / name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image, sample.image)
        np.testing.assert_array_equal(read_labels(folder, split, name), sample.labels)


def test_categories(coco):
    names = [coco.cats[number]['name'] for number in range(1, len(CLASSES) + 1)]
    assert tuple(names) == CLASSES == tuple(cat['name'] for cat in coco.dataset['categories'])


def test_images_exist_at_the_declared_size(coco, folder, split):
    assert len(coco.imgs) == getattr(CONFIG, split)
    for info in coco.imgs.values():
        image = cv2.imread(str(folder / 'images' / split / info['file_name']))
        assert image.shape == (info['height'], info['width'], 3) == (96, 96, 3)


def test_masks_equal_labels_pixel_for_pixel(coco, folder, split):
    for image_id, info in coco.imgs.items():
        labels = read_labels(folder, split, info['file_name'])
        assert labels.dtype == np.uint8 and labels.ndim == 2
        covered = np.zeros(labels.shape, int)
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation).astype(bool)
            assert mask.any()
            assert (labels[mask] == annotation['category_id'] + 1).all()
            covered += mask
        assert covered.max() == 1
        np.testing.assert_array_equal(labels == 1, covered == 0)


def test_boxes_and_areas_are_of_the_visible_masks(coco):
    assert coco.anns and 0 not in coco.anns
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        ys, xs = np.nonzero(mask)
        x, y, width, height = annotation['bbox']
        assert (x, y) == (xs.min(), ys.min())
        assert (x + width, y + height) == (xs.max() + 1, ys.max() + 1)
        assert annotation['area'] == mask.sum()
        assert annotation['iscrowd'] == 0


def test_segmentations_are_compressed_codes_of_plain_json(folder, split):
    content = json.loads((folder / 'annotations' / f'instances_{split}.json').read_text())
    for annotation in content['annotations']:
        code = annotation['segmentation']
        assert isinstance(code['counts'], str) and code['size'] == [96, 96]
        assert coco_mask.area(code) == annotation['area']


def test_same_parameters_give_the_same_bytes(folder, tmp_path, read_tree):
    make(tmp_path / 'again', CONFIG, progress=False)
    assert read_tree(tmp_path / 'again') == read_tree(folder)


def test_fewer_images_are_a_prefix(folder, tmp_path):
    make(tmp_path / 'few', ShapesConfig(train=2, val=1, size=96, seed=11), progress=False)
    pictures = sorted((tmp_path / 'few').rglob('*.png'))
    assert len(pictures) == 6
    for path in pictures:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path / 'few')).read_bytes()


def test_high_resolution_set(tmp_path):
    make(tmp_path / 'large', ShapesConfig(train=0, val=1, size=1024), progress=False)
    coco = COCO(str(tmp_path / 'large/annotations/instances_val.json'))
    labels = read_labels(tmp_path / 'large', 'val', '000000.png')
    assert labels.shape == (1024, 1024)
    union = sum(coco.annToMask(annotation) for annotation in coco.anns.values())
    np.testing.assert_array_equal(union == 0, labels == 1)
    empty = json.loads((tmp_path / 'large/annotations/instances_train.json').read_text())
    assert empty['images'] == [] and empty['annotations'] == []


@pytest.mark.parametrize(('split', 'count'), [('train', 8), ('val', 3)])
def test_lists_of_classes_agree_with_the_coco_files(single_shapes, split, count):
    lines = (single_shapes / f'annotations/classes_{split}.txt').read_text().splitlines()
    coco = COCO(str(single_shapes / f'annotations/instances_{split}.json'))
    expected = [
        f'{info["file_name"]} {coco.imgToAnns[number][0]["category_id"] - 1}'
        for number, info in coco.imgs.items()
    ]
    assert len(lines) == count and lines == expected
    assert all(len(coco.imgToAnns[number]) == 1 for number in coco.imgs)
    names = {path.name for path in (single_shapes / f'images/{split}').iterdir()}
    assert {line.split()[0] for line in lines} == names
