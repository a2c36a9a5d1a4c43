"""A large map is computed in strips at inference: the same map, whatever the strips."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.helpers.contract import build
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.backbones.strategies import compared_strategies
from weightformer_mm.layers import fused, strips

NETWORKS = {
    'pyramid': (
        PyramidWeightFormer,
        dict(arch=dict(embed_dims=(8, 16, 16), depths=(2, 2, 2)), out_indices=(0, 1, 2)),
    ),
    'isotropic': (WeightFormer, dict(arch=dict(embed_dims=8, depth=5), patch_size=4)),
}
STRATEGIES = compared_strategies()
each_network = pytest.mark.parametrize('network', NETWORKS)


def build_network(network, strategy='published', **options):
    backbone, arguments = NETWORKS[network]
    return build(backbone, **arguments, **STRATEGIES[strategy], **options).double().eval()


@pytest.mark.parametrize(
    ('size', 'max_tokens'),
    [((51, 70), 1), ((51, 70), 40), ((51, 70), 100), ((84, 9), 1), ((4, 300), 40)],
)
@pytest.mark.parametrize('strategy', STRATEGIES)
@each_network
def test_strips_give_the_maps_of_the_whole_image(network, size, strategy, max_tokens):
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = build_network(network, strategy)(image)
        outputs = build_network(network, strategy, max_tokens=max_tokens)(image)
    for found, whole in zip(outputs, expected):
        assert found.is_contiguous() and found.shape == whole.shape
        assert float((found - whole).norm()) <= 1e-12 * float(whole.norm())


@each_network
def test_no_operation_sees_more_than_a_strip(network, monkeypatch):
    seen = []
    convolve = fused.ops.depthwise_conv

    def watched(x, *args, **kwargs):
        seen.append(x.shape[1] * x.shape[2])
        return convolve(x, *args, **kwargs)

    monkeypatch.setattr(fused.ops, 'depthwise_conv', watched)
    model = build_network(network, max_tokens=100)
    with torch.no_grad():
        model(torch.randn(1, 3, 96, 80, dtype=torch.float64))
    width = 20
    assert seen and max(seen) <= 100 + 2 * strips.HALO * width


@each_network
def test_training_and_small_images_need_no_strips(network, monkeypatch):
    def refuse(*args):
        raise AssertionError('in strips')

    monkeypatch.setattr('weightformer_mm.backbones.base.run_in_strips', refuse)
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    build_network(network, max_tokens=1)(image)  # with gradients
    with torch.no_grad():
        build_network(network, max_tokens=1).train()(image)
        build_network(network, max_tokens=64)(image)
        with pytest.raises(AssertionError, match='in strips'):
            build_network(network, max_tokens=63)(image)


@pytest.mark.parametrize('part', ['block', 'linear2', 'norm1', 'norm', 'downsample'])
@each_network
def test_a_changed_module_is_called_on_the_whole_map(network, part):
    model = build_network(network, max_tokens=10)
    blocks = [module for module in model.modules() if hasattr(module, 'linear2')]
    dynamic = next(block for block in blocks if hasattr(block, 'norm1'))
    changed = {
        'block': blocks[1],
        'linear2': blocks[1].linear2,
        'norm1': dynamic.norm1,
        'norm': getattr(model, f'norm{model.out_indices[0]}'),
        'downsample': model.stages[0].downsample if network == 'pyramid' else model.patch_embed,
    }[part]
    seen = []
    changed.register_forward_hook(lambda module, args, out: seen.append(out.shape[1:3]))
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 40, dtype=torch.float64))
    assert seen == [(8, 10)]


@each_network
def test_blocks_and_outputs_take_no_memory_of_their_own(network, monkeypatch):
    """The largest maps are there once: memory grows as the outputs do."""
    maps = []

    def watched(block, x, max_tokens):
        out = fused.run_in_strips(block, x, max_tokens)
        assert out.data_ptr() == x.data_ptr()
        maps.append(out.data_ptr())
        return out

    monkeypatch.setattr('weightformer_mm.backbones.base.run_in_strips', watched)
    model = build_network(network, max_tokens=10)
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 48, 64, dtype=torch.float64))
    assert [output.data_ptr() for output in outputs] == list(dict.fromkeys(maps))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations made and that are alive."""

    def __init__(self):
        super().__init__()
        self.live = self.most = 0
        self.storages = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves(args) if isinstance(x, Tensor)}
        for tensor in (x for x in tree_leaves(out) if isinstance(x, Tensor)):
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self.storages | given:
                self.storages.add(key)
                self.live += size
                self.most = max(self.most, self.live)
                weakref.finalize(storage, self.free, key, size)
        return out

    def free(self, key, size):
        self.storages.discard(key)
        self.live -= size


@each_network
def test_memory_grows_by_no_more_than_the_outputs_take(network):
    """Beside its outputs, the largest image without strips takes more than any with them."""
    model = build_network(network, max_tokens=32 * 32).float()
    beside = []
    for side in (128, 132, 192, 256, 512):
        image = torch.zeros(1, 3, side, side)
        with torch.no_grad(), LiveBytes() as memory:
            outputs = model(image)
        taken = sum(output.untyped_storage().nbytes() for output in outputs)
        assert memory.most > memory.live >= taken
        beside.append(memory.most - taken)
    assert max(beside) == beside[0]


@each_network
def test_what_a_hook_keeps_is_not_overwritten(network):
    """Each module in turn has a hook that keeps what it reads and returns."""
    image = torch.randn(1, 3, 51, 70, dtype=torch.float64)
    with torch.no_grad():
        expected = build_network(network)(image)
    model = build_network(network, max_tokens=16)
    calls = 0
    for module in list(model.modules())[1:]:
        kept = []

        def keep(module, args, out, kept=kept):
            kept.extend((tensor, tensor.clone()) for tensor in (*args, out))

        with torch.no_grad(), module.register_forward_hook(keep):
            outputs = model(image)
        calls += bool(kept)
        assert all(torch.equal(tensor, copy) for tensor, copy in kept), type(module).__name__
        for found, whole in zip(outputs, expected):
            assert float((found - whole).norm()) <= 1e-12 * float(whole.norm())
    assert calls > 20


def test_a_module_that_returns_what_it_reads():
    class Nothing(torch.nn.Module):
        def forward(self, x):
            return x

    image = torch.randn(1, 3, 48, 64, dtype=torch.float64)
    found = []
    for max_tokens in (10, 10**6):
        options = dict(arch=dict(embed_dims=(8, 8, 8), depths=(2, 2, 2)), output_stride=8)
        options['out_indices'] = (0, 1, 2)
        model = build(PyramidWeightFormer, **options, max_tokens=max_tokens).double().eval()
        model.stages[2].downsample = Nothing()
        with torch.no_grad():
            found.append(model(image))
    for strips_, whole in zip(*found):
        torch.testing.assert_close(strips_, whole, rtol=1e-12, atol=1e-12)


def test_max_tokens_is_checked():
    with pytest.raises(ValueError, match='max_tokens of at least 1, got 0'):
        build(PyramidWeightFormer, 'micro', max_tokens=0)
