"""ContextShapes: the mark tells the class, from farther than a local network sees, and nothing else does."""

from __future__ import annotations

import json
from functools import cache

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.helpers import needs
from weightformer_mm.datasets import (
    STATIC_REACH,
    ContextRules,
    ShapesConfig,
    make_shapes,
    render_sample,
)
from weightformer_mm.datasets.shapes import scene
from weightformer_mm.datasets.shapes.classes import (
    BACKGROUND_LABEL,
    CONTEXT_CLASSES,
)
from weightformer_mm.errors import UserError

SIZE = 128
BAND, MARKER = ContextRules(), ContextRules(cue_area=0.003)
RULES = pytest.mark.parametrize('rules', [BAND, MARKER], ids=['band', 'marker'])


@cache
def render(index, rules=BAND, seed=0, size=SIZE):
    return render_sample(seed, 'train', index, size, context=rules)


def mark_mask(sample):
    mask = np.zeros(sample.labels.shape, bool)
    mask[sample.mark.window] = True
    return mask


@RULES
@pytest.mark.parametrize('size', [100, 128, 200])
def test_every_object_pixel_is_beyond_the_reach(rules, size):
    """By an independent measure: the square that a local network sees of each pixel of the mark."""
    for index in range(25):
        sample = render(index, rules, seed=index % 5, size=size)
        side = 2 * rules.reach + 1
        seen = cv2.dilate(mark_mask(sample).astype(np.uint8), np.ones((side, side), np.uint8))
        assert not seen[sample.instances > 0].any()
        assert (sample.labels > BACKGROUND_LABEL).any()


def test_nothing_of_an_object_is_painted_within_the_reach():
    """Nor the soft edges of objects, which no label covers."""
    for index in range(10):
        sample, bare = render(index), None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scene, '_draw_object', lambda *args: None)
            bare = render.__wrapped__(index)
        changed = (sample.image != bare.image).any(axis=-1)
        side = 2 * STATIC_REACH + 1
        seen = cv2.dilate(mark_mask(sample).astype(np.uint8), np.ones((side, side), np.uint8))
        assert changed.any() and not seen[changed].any()


def test_the_band_takes_15_to_20_percent_along_each_of_the_sides():
    sides = set()
    for index in range(60):
        sample = render(index)
        assert 0.15 <= mark_mask(sample).mean() <= 0.20
        mark = sample.mark
        edges = (mark.left, mark.top, SIZE - mark.left - mark.width, SIZE - mark.top - mark.height)
        assert edges.count(0) == 3
        sides.add(edges.index(max(edges)))
    assert sides == {0, 1, 2, 3}


def test_the_marker_has_its_area():
    for index in range(20):
        sample = render(index, MARKER)
        assert sample.mark.width == sample.mark.height
        assert mark_mask(sample).mean() == pytest.approx(0.003, rel=0.05)


@RULES
def test_class_and_mark_agree(rules):
    """The mark is red where the labels say so, blue where they say that."""
    cues = set()
    for index in range(40):
        sample = render(index, rules)
        blue, _, red = sample.image[sample.mark.window].reshape(-1, 3).mean(axis=0)
        cue = 'red' if red > blue + 40 else 'blue' if blue > red + 40 else None
        for number, spec in enumerate(sample.objects, start=1):
            values = np.unique(sample.labels[sample.instances == number])
            name = CONTEXT_CLASSES[values.item() - BACKGROUND_LABEL - 1]
            assert name == f'{spec.kind}_{cue}'
        cues.add(cue)
    assert cues == {'red', 'blue'}


@RULES
def test_nothing_but_the_mark_depends_on_the_cue(rules, monkeypatch):
    for index in range(10):
        pair = []
        for cue in ('red', 'blue'):
            monkeypatch.setattr(scene, 'draw_cue', lambda rng, cue=cue: cue)
            pair.append(render.__wrapped__(index, rules))
        outside = ~mark_mask(pair[0])
        assert pair[0].mark == pair[1].mark and pair[0].objects == pair[1].objects
        np.testing.assert_array_equal(pair[0].image[outside], pair[1].image[outside])
        np.testing.assert_array_equal(pair[0].instances, pair[1].instances)
        assert not np.array_equal(pair[0].image, pair[1].image)
        assert (pair[0].labels != pair[1].labels)[pair[0].instances > 0].all()


def test_cue_side_and_kind_are_balanced_and_independent():
    samples = [render(index, size=100) for index in range(160)]
    cues = np.array([sample.cue == 'red' for sample in samples])
    kinds = np.array([sample.objects[0].kind == 'disk' for sample in samples])
    lying = np.array([sample.mark.width > sample.mark.height for sample in samples])
    for values in (cues, kinds, lying):
        assert 0.4 < values.mean() < 0.6
    for one, other in ((cues, kinds), (cues, lying), (kinds, lying)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'size': 90}, 'between 0 and 48 .* size 90, got 56; choose a larger size'),
        ({'reach': 100}, 'reach must be between 0 and'),
        ({'reach': -1}, 'reach must be between 0 and'),
        ({'cue_area': 0.0}, 'cue_area must be at least 2x2 pixels'),
        ({'cue_area': 0.1}, 'at most 0.02'),
        ({'cue_area': 0.0001}, 'at least 2x2 pixels'),
        ({'single': True}, 'choose one'),
        ({'context': False, 'cue_area': 0.003}, 'belong to context'),
        ({'context': False, 'reach': 10}, 'belong to context'),
    ],
)
def test_awkward_values_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        ShapesConfig(**{'size': SIZE, 'context': True, **changes})


def test_the_least_size_that_an_error_names_is_enough():
    ShapesConfig(size=99, context=True)
    for index in range(20):
        render(index, size=99)


def test_files_of_a_set(tmp_path, read_tree):
    config = ShapesConfig(train=3, val=2, size=SIZE, context=True, cue_area=0.003)
    make_shapes(tmp_path / 'set', config, progress=False)
    manifest = json.loads((tmp_path / 'set/manifest.json').read_text())
    assert manifest['parameters'] == {
        'train': 3, 'val': 2, 'size': SIZE, 'seed': 0, 'context': True, 'reach': 56, 'cue_area': 0.003,
    }  # fmt: skip
    coco = COCO(str(tmp_path / 'set/annotations/instances_train.json'))
    assert tuple(cat['name'] for cat in coco.dataset['categories']) == CONTEXT_CLASSES
    for image_id, info in coco.imgs.items():
        path = tmp_path / 'set/annotations/train' / info['file_name']
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(labels, render(image_id, MARKER).labels)
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation).astype(bool)
            assert (labels[mask] == annotation['category_id'] + BACKGROUND_LABEL).all()
    assert make_shapes(tmp_path / 'set', config, progress=False) is False
    make_shapes(tmp_path / 'again', config, progress=False)
    assert read_tree(tmp_path / 'again') == read_tree(tmp_path / 'set')


# drawn in float32: other versions may round a pixel the other way
@needs.locked('numpy', 'opencv-python')
@pytest.mark.parametrize(
    ('changes', 'checksum'),
    [
        ({}, 'fc77b13a4d0de8673cb2d22f260c6cb1e70ccd7ca9c75b005926b381b9e7b013'),
        ({'single': True}, '1cfbf08975df81f46fa6239bb4b55c330e72ebdfefff325654b9411423d4b496'),
    ],
    ids=['several', 'single'],
)
def test_other_sets_keep_their_bytes(tmp_path, changes, checksum):
    make_shapes(tmp_path / 'set', ShapesConfig(train=2, val=1, size=64, **changes), progress=False)
    assert json.loads((tmp_path / 'set/manifest.json').read_text())['checksum'] == checksum
