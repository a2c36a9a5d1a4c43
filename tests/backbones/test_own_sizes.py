"""What a network computes for an image does not depend on the padding of its batch, or on its companions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.contract import MODES, NETWORKS, build
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.backbones.base import get_image_sizes, set_image_sizes
from weightformer_mm.backbones.strategies import compared_strategies
from weightformer_mm.necks import SimpleFeaturePyramid

STRATEGIES = compared_strategies()
# of the images of a batch: an odd one alone, companions up to three times as large, two of equal size
BATCHES = [
    [(13, 22)],
    [(13, 22), (37, 19)],
    [(13, 22), (21, 34), (13, 22)],
    [(9, 30), (27, 7), (13, 22), (27, 7), (8, 8)],
]
each_network = pytest.mark.parametrize('network', NETWORKS)
each_batch = pytest.mark.parametrize('sizes', BATCHES, ids=len)


def draw(sizes, pad=(3, 5), dtype=torch.float64):
    """Images of these sizes, and a batch that is padded to the largest and ``pad`` further pixels.

    The padding is of large numbers, which anything that read them would show.
    """
    images = [torch.randn(3, *size, dtype=dtype) for size in sizes]
    height, width = (max(side) + extra for side, extra in zip(zip(*sizes), pad))
    batch = torch.full((len(sizes), 3, height, width), 1e3, dtype=dtype)
    for place, image in zip(batch, images):
        place[:, : image.shape[1], : image.shape[2]] = image
    return images, batch


def cut(maps, index, like):
    """The part of an image in the maps of its batch; the rest is zero."""
    height, width = like.shape[-2:]
    rest = maps[index].clone()
    rest[:, :height, :width] = 0
    assert not rest.any()
    return maps[index : index + 1, :, :height, :width]


def compare(found, expected, tolerance):
    assert float((found - expected).norm()) <= tolerance * float(expected.norm())


@each_batch
@pytest.mark.parametrize('strategy', STRATEGIES)
@each_network
def test_maps_are_those_of_each_image_alone(network, strategy, sizes):
    backbone, arguments = NETWORKS[network]
    model = build(backbone, **arguments, **STRATEGIES[strategy]).double().eval()
    images, batch = draw(sizes)
    with torch.no_grad():
        outputs = model(batch, sizes=sizes)
        for index, image in enumerate(images):
            for maps, alone in zip(outputs, model(image[None])):
                compare(cut(maps, index, alone), alone, 1e-12)
        expected = model.output_sizes(batch.shape[-2:])
    assert [tuple(maps.shape[-2:]) for maps in outputs] == expected


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('strategy', STRATEGIES)
@each_network
def test_gradients_are_the_sums_of_those_of_each_image(network, strategy, mode):
    backbone, arguments = NETWORKS[network]
    model = build(backbone, **arguments, **STRATEGIES[strategy], **MODES[mode]).double()
    images, batch = draw(BATCHES[-1])
    batch.requires_grad_()
    sum(maps.sin().sum() for maps in model(batch, sizes=BATCHES[-1])).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    for index, image in enumerate(images):
        image.requires_grad_()
        sum(maps.sin().sum() for maps in model(image[None])).backward()
        compare(batch.grad[index, :, : image.shape[1], : image.shape[2]], image.grad, 1e-10)
        batch.grad[index, :, : image.shape[1], : image.shape[2]] = 0
    assert not batch.grad.any()  # of the padding
    for name, parameter in model.named_parameters():
        compare(found[name], parameter.grad, 1e-10)


SIDES = st.integers(4, 40)


@settings(derandomize=True, deadline=None, max_examples=20, database=None)
@given(
    sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5),
    pad=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 2**16),
)
@each_network
def test_maps_of_any_sizes_in_any_company(network, sizes, pad, seed):
    backbone, arguments = NETWORKS[network]
    torch.manual_seed(seed)
    model = build(backbone, **arguments).eval()
    images, batch = draw(sizes, pad, torch.float32)
    with torch.no_grad():
        outputs = model(batch, sizes=sizes)
        for index, image in enumerate(images):
            for maps, alone in zip(outputs, model(image[None])):
                compare(cut(maps, index, alone), alone, 1e-5)


@each_network
def test_noted_sizes_serve_unless_others_are_given(network):
    backbone, arguments = NETWORKS[network]
    model = build(backbone, **arguments).double().eval()
    sizes = BATCHES[1]
    _, batch = draw(sizes)
    given = model(batch, sizes=sizes)
    as_one = model(batch)
    set_image_sizes(batch, sizes)
    assert all(torch.equal(a, b) for a, b in zip(model(batch), given))
    whole = [tuple(batch.shape[-2:])] * 2
    assert all(torch.equal(a, b) for a, b in zip(model(batch, sizes=whole), as_one))
    (part,) = model.intermediates(batch, [0])
    assert get_image_sizes(part) == get_image_sizes(given[0])


def test_padding_completes_an_image_that_is_thinner_than_a_patch():
    model = build(WeightFormer, arch=dict(embed_dims=8, depth=2), patch_size=16).eval()
    image = torch.zeros(1, 3, 16, 40)
    image[:, :, :12] = torch.randn(1, 3, 12, 40)
    batch = torch.zeros(2, 3, 48, 64)
    batch[0, :, :16, :40] = image
    (alone,), (maps,) = model(image), model(batch, sizes=[(12, 40), (48, 64)])
    compare(cut(maps, 0, alone), alone, 1e-5)


@pytest.mark.parametrize('num_outs', [4, 5])
def test_the_neck_goes_on_with_the_sizes(num_outs):
    backbone, arguments = NETWORKS['isotropic']
    model = build(backbone, **arguments).double().eval()
    neck = SimpleFeaturePyramid(8, 16, num_outs).double().eval()
    images, batch = draw(BATCHES[-1])
    outputs = neck(model(batch, sizes=BATCHES[-1]))
    for index, image in enumerate(images):
        for maps, alone in zip(outputs, neck(model(image[None]))):
            compare(cut(maps, index, alone), alone, 1e-12)


@pytest.mark.parametrize('sizes', [[(8, 8)], [(8, 8), (8, 17)], [(17, 8), (8, 8)]])
def test_sizes_that_do_not_fit_are_refused(sizes):
    model = build(PyramidWeightFormer, arch='micro')
    with pytest.raises(ValueError, match=r'images of up to .* do not fit \(2, 3, 16, 16\)'):
        model(torch.zeros(2, 3, 16, 16), sizes=sizes)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_under_autocast(dtype):
    backbone, arguments = NETWORKS['pyramid']
    model = build(backbone, **arguments).eval()
    images, batch = draw(BATCHES[-1], dtype=torch.float32)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, dtype == torch.bfloat16):
        outputs = model(batch, sizes=BATCHES[-1])
        for index, image in enumerate(images):
            for maps, alone in zip(outputs, model(image[None])):
                part = cut(maps, index, alone)
                assert part.dtype == alone.dtype
                compare(part, alone, 1e-5 if dtype == torch.float32 else 2e-2)
