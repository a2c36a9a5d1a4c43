"""Miniatures, read by the libraries that read the real data sets."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from projects.miniatures import LAYOUTS, make_miniature
from projects.miniatures.coco import CATEGORY_IDS
from weightformer_mm.errors import UserError

SIZE = (64, 96)
TRAIN, VAL = 12, 8


@pytest.fixture(scope='module')
def miniatures(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('miniatures')
    for layout in LAYOUTS:
        assert make_miniature(layout, root / layout, TRAIN, VAL, size=SIZE, progress=False)
    return {layout: root / layout for layout in LAYOUTS}


def build_dataset(scope: str, **options):
    import_module(f'{scope}.datasets')
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(options)


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope='module', params=['train', 'val'])
def coco_api(request, miniatures):
    path = miniatures['coco'] / f'annotations/instances_{request.param}2017.json'
    api = COCO(str(path))
    api.folder = miniatures['coco'] / f'{request.param}2017'
    return api


class TestCoco:
    def test_has_the_80_categories_under_their_official_ids(self, coco_api):
        assert coco_api.getCatIds() == list(CATEGORY_IDS) and len(CATEGORY_IDS) == 80
        names = {number: category['name'] for number, category in coco_api.cats.items()}
        known = {1: 'person', 13: 'stop sign', 27: 'backpack', 67: 'dining table', 90: 'toothbrush'}
        assert known.items() <= names.items() and len(set(names.values())) == 80

    def test_pictures_have_the_sizes_of_the_file_and_some_are_grey(self, coco_api):
        grey, sizes = 0, set()
        assert len(list(coco_api.folder.iterdir())) == len(coco_api.imgs) in (TRAIN, VAL)
        for image in coco_api.imgs.values():
            picture = read(coco_api.folder / image['file_name'])
            assert picture.shape[:2] == (image['height'], image['width'])
            grey += picture.ndim == 2
            sizes.add(picture.shape[:2])
        assert grey >= 1
        assert any(height > width for height, width in sizes)
        assert any(height % 2 and width % 2 for height, width in sizes)

    def test_annotations_are_polygons_of_what_is_seen(self, coco_api):
        things = [entry for entry in coco_api.anns.values() if not entry['iscrowd']]
        assert len(things) > len(coco_api.imgs)
        for entry in things:
            assert all(len(polygon) >= 6 for polygon in entry['segmentation'])
            mask = coco_api.annToMask(entry)
            assert mask.sum() == entry['area'] > 0
            box = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask)))
            assert np.allclose(box, entry['bbox'])

    def test_crowds_are_uncompressed_run_lengths(self, coco_api):
        crowds = [entry for entry in coco_api.anns.values() if entry['iscrowd']]
        assert crowds
        for entry in crowds:
            image = coco_api.imgs[entry['image_id']]
            assert entry['segmentation']['size'] == [image['height'], image['width']]
            assert sum(entry['segmentation']['counts']) == image['height'] * image['width']
            mask = coco_api.annToMask(entry)
            assert mask.sum() == entry['area'] > 0
            y, x = (axis.min() for axis in np.nonzero(mask))
            assert [x, y] == entry['bbox'][:2]

    def test_some_pictures_have_nothing_and_some_crowds_alone(self, coco_api):
        def kinds(image_id):
            return {entry['iscrowd'] for entry in coco_api.imgToAnns[image_id]}

        found = [kinds(image_id) for image_id in coco_api.imgs]
        assert set() in found and {1} in found and {0} in found and {0, 1} in found

    def test_is_read_by_mmdet(self, miniatures):
        options = dict(
            type='CocoDataset',
            data_root=str(miniatures['coco']),
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                dict(type='PackDetInputs'),
            ],
        )
        everything = build_dataset('mmdet', **options)
        assert len(everything) == TRAIN
        used = build_dataset('mmdet', **options, filter_cfg=dict(filter_empty_gt=True))
        assert 0 < len(used) < TRAIN
        ignored, labels = 0, set()
        for item in everything:
            truth = item['data_samples']
            assert truth.img_shape == tuple(item['inputs'].shape[1:])
            ignored += len(truth.ignored_instances)
            labels |= set(truth.gt_instances.labels.tolist())
            if len(truth.gt_instances):
                assert truth.gt_instances.masks.masks.any(axis=(1, 2)).all()
        assert ignored and len(labels) > 12 and max(labels) > 40


class TestCocoPanoptic:
    def test_segments_are_those_of_the_pictures(self, miniatures):
        root = miniatures['coco'] / 'annotations'
        content = json.loads((root / 'panoptic_train2017.json').read_text())
        objects = json.loads((root / 'instances_train2017.json').read_text())['annotations']
        things = {c['id'] for c in content['categories'] if c['isthing']}
        assert things == set(CATEGORY_IDS)
        stuff = {c['id'] for c in content['categories']} - things
        assert len(stuff) == 53 and stuff <= set(range(92, 201))
        segments, has_void = [], False
        for entry in content['annotations']:
            colours = read(root / 'panoptic_train2017' / entry['file_name'])
            numbers = colours.astype(int) @ [256**2, 256, 1]  # BGR
            stated = {one['id']: one['area'] for one in entry['segments_info']}
            found = dict(zip(*(part.tolist() for part in np.unique(numbers, return_counts=True))))
            has_void |= bool(found.pop(0, 0))
            assert found == stated
            segments += [(entry['image_id'], one) for one in entry['segments_info']]
        assert has_void
        counted = [(i, s['category_id'], s['iscrowd']) for i, s in segments]
        ours = [(o['image_id'], o['category_id'], o['iscrowd']) for o in objects]
        assert sorted(c for c in counted if c[1] in things) == sorted(ours)
        assert any(crowd for _, _, crowd in counted)

    def test_is_read_by_mmdet(self, miniatures):
        dataset = build_dataset(
            'mmdet',
            type='CocoPanopticDataset',
            data_root=str(miniatures['coco']),
            ann_file='annotations/panoptic_val2017.json',
            data_prefix=dict(img='val2017/', seg='annotations/panoptic_val2017/'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadPanopticAnnotations'),
                dict(type='PackDetInputs'),
            ],
        )
        assert len(dataset) == VAL
        samples = [item['data_samples'] for item in dataset]
        assert sum(len(sample.gt_instances) for sample in samples) > VAL
        labels = {int(v) for sample in samples for v in sample.gt_sem_seg.sem_seg.unique()}
        assert any(80 <= label < 133 for label in labels) and max(labels - {255}) < 133


class TestAde20k:
    def test_is_read_by_mmseg(self, miniatures):
        for split, count in (('training', TRAIN), ('validation', VAL)):
            dataset = build_dataset(
                'mmseg',
                type='ADE20KDataset',
                data_root=str(miniatures['ade20k']),
                data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}'),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations', reduce_zero_label=True),
                    dict(type='PackSegInputs'),
                ],
            )
            assert len(dataset) == count and len(dataset.metainfo['classes']) == 150
            labels = set()
            for item in dataset:
                truth = item['data_samples'].gt_sem_seg.data
                assert truth.shape[1:] == item['inputs'].shape[1:]
                labels |= set(truth.unique().tolist())
            assert 255 in labels and len(labels) > 12 and 100 < max(labels - {255}) < 150

    def test_labels_are_bytes_with_0_for_other(self, miniatures):
        for path in (miniatures['ade20k'] / 'annotations').rglob('*.png'):
            labels = read(path)
            assert labels.dtype == np.uint8 and labels.ndim == 2 and labels.max() <= 150
            assert labels.any()

    def test_sizes_are_odd_and_upright_too(self, miniatures):
        folder = miniatures['ade20k'] / 'images/training'
        sizes = {read(path).shape[:2] for path in folder.iterdir()}
        assert SIZE in sizes and SIZE[::-1] in sizes
        assert any(height % 2 and width % 2 for height, width in sizes)


class TestCityscapes:
    def test_is_read_by_mmseg(self, miniatures):
        for split, count in (('train', TRAIN), ('val', VAL)):
            dataset = build_dataset(
                'mmseg',
                type='CityscapesDataset',
                data_root=str(miniatures['cityscapes']),
                data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations'),
                    dict(type='PackSegInputs'),
                ],
            )
            assert len(dataset) == count
            assert len({Path(item['img_path']).parent for item in dataset.load_data_list()}) >= 2
            labels = set()
            for item in dataset:
                truth = item['data_samples'].gt_sem_seg.data
                assert truth.shape[1:] == item['inputs'].shape[1:] == SIZE
                labels |= set(truth.unique().tolist())
            assert 255 in labels and labels - {255} <= set(range(19)) and len(labels) > 6

    def test_both_kinds_of_labels_agree(self, miniatures):
        paths = sorted((miniatures['cityscapes'] / 'gtFine').rglob('*_labelIds.png'))
        assert len(paths) == TRAIN + VAL
        pairs = set()
        for path in paths:
            twin = path.with_name(path.name.replace('labelIds', 'labelTrainIds'))
            both = np.stack([read(path), read(twin)]).reshape(2, -1)
            pairs |= set(map(tuple, np.unique(both, axis=1).T.tolist()))
        known = {(1, 255), (7, 0), (8, 1), (11, 2), (12, 3), (13, 4), (17, 5), (19, 6), (33, 18)}
        known |= {(label, label - 13) for label in range(20, 29)} | {(31, 16), (32, 17)}
        assert pairs <= known and len(pairs) > 12


@pytest.mark.parametrize('layout', LAYOUTS)
class TestFolder:
    def test_depends_on_the_seed_alone(self, layout, tmp_path, read_tree):
        for name, seed in (('a', 3), ('b', 3), ('c', 4)):
            make_miniature(layout, tmp_path / name, 2, 1, seed=seed, size=SIZE, progress=False)
        first, second, other = (read_tree(tmp_path / name) for name in 'abc')
        assert first == second
        assert set(first) == set(other)
        pictures = [name for name in first if name.endswith(('jpg', 'png'))]
        assert all(first[name] != other[name] for name in pictures)

    def test_is_kept_where_it_is_and_replaced_with_force(self, layout, tmp_path, read_tree):
        out = tmp_path / 'set'

        def make(seed, **options):
            return make_miniature(layout, out, 1, 1, seed, SIZE, progress=False, **options)

        assert make(0) and not make(0)
        before = read_tree(out)
        with pytest.raises(UserError, match='seed 0.*--force'):
            make(1)
        assert read_tree(out) == before
        assert make(1, force=True)
        assert [path.name for path in tmp_path.iterdir()] == ['set']

    @pytest.mark.parametrize('force', [False, True])
    def test_real_data_is_never_touched(self, layout, tmp_path, miniatures, read_tree, force):
        out = tmp_path / 'real'
        for path in miniatures[layout].rglob('*'):
            if path.suffix in ('.jpg', '.png'):
                copy = out / path.relative_to(miniatures[layout])
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(b'dear to me')
        before = read_tree(out)
        with pytest.raises(UserError, match='did not make it'):
            make_miniature(layout, out, 1, 1, force=force, size=SIZE, progress=False)
        assert read_tree(tmp_path) == {f'real/{name}': content for name, content in before.items()}


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(layout='voc'), 'voc.*coco, ade20k, cityscapes'),
        (dict(train=-1), 'train'),
        (dict(val=10**6), 'val'),
        (dict(train=0, val=0), 'nothing'),
        (dict(seed=-1), 'seed'),
        (dict(size=(16, 64)), 'size'),
        (dict(size=(64, 10**5)), 'size'),
    ],
)
def test_values_out_of_range(tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        make_miniature(**{'layout': 'coco', 'out': tmp_path / 'set', **options}, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_without_mmdet_coco_says_so_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet.datasets', None)
    with pytest.raises(UserError, match='mmdet'):
        make_miniature('coco', tmp_path / 'set', 1, 1, size=SIZE, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert make_miniature('ade20k', tmp_path / 'set', 1, 1, size=SIZE, progress=False)


def test_the_file_says_that_it_is_generated(miniatures):
    path = miniatures['coco'] / 'annotations/instances_val2017.json'
    content = json.loads(path.read_text())
    assert 'Generated' in content['info']['description']
    assert {image['license'] for image in content['images']} == {
        licence['id'] for licence in content['licenses']
    }
