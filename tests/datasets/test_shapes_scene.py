"""What one generated sample looks like, and what it depends on."""

from __future__ import annotations

import itertools
from functools import cache

import cv2
import numpy as np
import pytest

from weightformer_mm.datasets.shapes import layout, outlines, paint
from weightformer_mm.datasets.shapes.classes import BACKGROUND_LABEL, CLASSES, category_id
from weightformer_mm.datasets.shapes.scene import _streams, render_sample


def full_mask(spec: outlines.ObjectSpec, size: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    window, share = outlines.coverage(outlines.place(spec, size), size)
    mask[window] = share >= 0.5
    return mask


render_once = cache(render_sample)


def sample_layout(seed: int, split: str, index: int) -> tuple[outlines.ObjectSpec, ...]:
    return layout.draw_layout(_streams(seed, split, index)[0])


@pytest.fixture(scope='module')
def samples():
    return [render_sample(3, 'train', index, 128) for index in range(30)]


@pytest.fixture(scope='module')
def layouts():
    return [sample_layout(0, split, index) for split in ('train', 'val') for index in range(150)]


def test_same_arguments_give_same_pixels():
    first, second = (render_sample(5, 'val', 7, 96) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.instances, second.instances)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.objects == second.objects


@pytest.mark.parametrize('other', [(6, 'val', 7), (5, 'train', 7), (5, 'val', 8)])
def test_seed_split_and_index_all_matter(other):
    assert sample_layout(5, 'val', 7) != sample_layout(*other)
    assert not np.array_equal(render_sample(5, 'val', 7, 96).image, render_sample(*other, 96).image)


def test_types_and_shapes(samples):
    for sample in samples:
        assert sample.image.shape == (128, 128, 3) and sample.image.dtype == np.uint8
        assert sample.labels.shape == (128, 128) and sample.labels.dtype == np.uint8


def test_higher_resolution_is_the_same_composition():
    small, large = render_sample(0, 'val', 7, 256), render_sample(0, 'val', 7, 1024)
    assert small.objects == large.objects
    reduced = cv2.resize(large.image, (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - small.image).mean() < 6
    assert (large.labels[::4, ::4] == small.labels).mean() > 0.98


def test_sizes_span_eight_to_one(layouts):
    sizes = [spec.size for objects in layouts for spec in objects]
    assert pytest.approx(8) == layout.MAX_SIZE / layout.MIN_SIZE
    assert layout.MIN_SIZE <= min(sizes) and max(sizes) <= layout.MAX_SIZE
    assert max(sizes) / min(sizes) > 7.6


@pytest.mark.parametrize('kind', CLASSES)
def test_size_is_the_greatest_extent_of_the_mask(kind):
    for size in (layout.MIN_SIZE, layout.MAX_SIZE):
        mask = full_mask(outlines.ObjectSpec(kind, (0.5, 0.5), size, 0.3), 256)
        hull = cv2.convexHull(np.argwhere(mask))[:, 0]
        extent = np.linalg.norm(hull[:, None] - hull[None], axis=-1).max()
        assert extent == pytest.approx(size * 256, abs=2.5)


def test_every_kind_count_and_direction_occurs(layouts):
    assert {spec.kind for objects in layouts for spec in objects} == set(CLASSES)
    assert len(CLASSES) >= 6
    assert {len(objects) for objects in layouts} == {2, 3, 4, 5, 6}
    angles = [spec.angle for objects in layouts for spec in objects]
    counts, _ = np.histogram(angles, bins=8, range=(0, 2 * np.pi))
    assert counts.min() > 0.08 * len(angles)


@pytest.mark.parametrize('size', [16, 24, 96])
@pytest.mark.parametrize('pair', list(itertools.combinations(CLASSES, 2)), ids='-'.join)
def test_silhouettes_differ(pair, size):
    """Best overlap of two kinds over all directions and relative sizes stays clearly below one."""

    def mask(kind, scale, angle):
        spec = outlines.ObjectSpec(kind, (0.5, 0.5), scale * 0.75, angle)
        return full_mask(spec, round(size / 0.75))

    one = mask(pair[0], 0.9, 0.0)
    best = 0.0
    for scale, angle in itertools.product(np.linspace(0.6, 1.2, 7), np.linspace(0, np.pi, 13)):
        other = mask(pair[1], scale, angle)
        best = max(best, (one & other).sum() / (one | other).sum())
    assert best < 0.86


def test_instances_are_the_outlines_minus_what_lies_above(samples):
    for sample in samples:
        above = np.zeros(sample.labels.shape, bool)
        for number in range(len(sample.objects), 0, -1):
            full = full_mask(sample.objects[number - 1], 128)
            np.testing.assert_array_equal(sample.instances == number, full & ~above)
            above |= full
        np.testing.assert_array_equal(sample.instances == 0, ~above)


def test_labels_follow_instances(samples):
    for sample in samples:
        assert (sample.labels[sample.instances == 0] == BACKGROUND_LABEL).all()
        for number, spec in enumerate(sample.objects, start=1):
            values = sample.labels[sample.instances == number]
            assert len(values) > 0
            assert (values == BACKGROUND_LABEL + category_id(spec.kind)).all()


def test_overlap_occurs_but_leaves_objects_recognisable():
    overlapping = 0
    for index in range(40):
        sample = render_once(0, 'train', index, 256)
        shares = [
            (sample.instances == number).sum() / full_mask(spec, 256).sum()
            for number, spec in enumerate(sample.objects, start=1)
        ]
        overlapping += min(shares) < 0.97
        for share, spec in zip(shares, sample.objects):
            assert share >= layout.visible_floor(spec.size) - 1e-9
        assert (sample.instances == 0).mean() > layout.MIN_BACKGROUND - 0.01
    assert overlapping >= 24


def test_smallest_picture_shows_every_object():
    for index in range(60):
        sample = render_once(0, 'train', index, 64)
        counts = np.bincount(sample.instances.ravel(), minlength=len(sample.objects) + 1)
        assert counts.min() >= 6


def test_objects_stand_out_from_their_background():
    """Mean colours inside and just outside of an unoccluded object differ clearly, in CIE Lab."""
    for index in range(40):
        sample = render_once(0, 'train', index, 256)
        outside = sample.image[sample.instances == 0].mean(axis=0)
        for number in range(1, len(sample.objects) + 1):
            inside = sample.image[sample.instances == number].mean(axis=0)
            one, other = paint.to_lab(np.stack([inside, outside]))
            assert np.linalg.norm(one - other) > 20


@pytest.mark.parametrize('name', sorted(set(paint.TEXTURES) - {'plain'}))
def test_texture_shows_both_tones(name):
    axis = np.linspace(-0.5, 0.5, 48, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    for seed in range(10):
        weight = paint.TEXTURES[name](np.random.default_rng(seed), u, v)
        assert weight.shape == u.shape
        assert 0 <= weight.min() < 0.25 and 0.75 < weight.max() <= 1


def test_surfaces_are_textured():
    """More than grain on most objects and on every background."""
    for index in range(20):
        sample = render_once(0, 'train', index, 128)
        smooth = cv2.GaussianBlur(sample.image, (5, 5), 0).astype(float)
        assert smooth[sample.instances == 0].std(axis=0).max() > 3
        spread = [
            smooth[sample.instances == number].std(axis=0).max()
            for number in range(1, len(sample.objects) + 1)
        ]
        assert np.median(spread) > 5


def test_validation_pictures_are_not_training_pictures():
    def thumbnails(split, count):
        images = [render_once(0, split, index, 64).image for index in range(count)]
        hashes = {image.tobytes() for image in images}
        small = [cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA) for image in images]
        return hashes, np.stack(small).reshape(count, -1).astype(float)

    train_hashes, train = thumbnails('train', 80)
    val_hashes, val = thumbnails('val', 20)
    assert len(train_hashes) == 80 and len(val_hashes) == 20
    assert not train_hashes & val_hashes
    differences = np.abs(val[:, None] - train[None]).mean(axis=-1)
    assert differences.min() > 8


def test_a_single_object_is_large_whole_and_near_the_middle():
    kinds = set()
    for index in range(60):
        sample = render_sample(0, 'train', index, 64, single=True)
        (spec,) = sample.objects
        kinds.add(spec.kind)
        assert 0.5 <= spec.size <= 0.85
        assert max(abs(side - 0.5) for side in spec.center) <= 0.08
        assert not sample.instances[[0, -1]].any() and not sample.instances[:, [0, -1]].any()
        assert set(np.unique(sample.labels)) == {1, 1 + category_id(spec.kind)}
        np.testing.assert_array_equal(sample.instances > 0, full_mask(spec, 64))
    assert kinds == set(CLASSES)


def test_each_kind_of_set_draws_from_streams_of_its_own():
    """Nothing of a picture that detection is validated on may be in what a classifier was trained on."""
    samples = itertools.product((0, 1), ('train', 'val'), range(40), (None, 1, 2, 3))
    first = [stream.integers(2**63) for sample in samples for stream in _streams(*sample)]
    assert len(set(first)) == len(first) == 2 * 2 * 40 * 4 * 4


def test_the_pictures_of_several_objects_stay_what_they_were():
    kinds, sizes = zip(*((spec.kind, spec.size) for spec in sample_layout(0, 'val', 3)))
    assert kinds == ('triangle', 'ring', 'square', 'triangle', 'star')
    assert sizes == pytest.approx((0.32831487, 0.34696731, 0.17964243, 0.47752308, 0.14229672))
