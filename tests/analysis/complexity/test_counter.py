"""Each kind of operation is counted, free by convention, or named."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import DeformConv2d, ModulatedDeformConv2dPack, RoIAlign, nms
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers import needs
from weightformer_mm import ops
from weightformer_mm.analysis.complexity import Counts, count_operations
from weightformer_mm.analysis.complexity.operations import FORMULAS
from weightformer_mm.ops.depthwise_conv import triton

BATCH, HEADS, TOKENS, KEYS, DIM = 2, 4, 10, 6, 8
WIDE = HEADS * DIM
SCORES_AND_VALUES = 2 * BATCH * HEADS * TOKENS * KEYS * DIM


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


def count(function, *args: Tensor) -> Counts:
    model = function if isinstance(function, nn.Module) else Function(function)
    with count_operations(model.eval()) as counts:
        model(*args)
    return counts


def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1)).softmax(-1) @ value


def by_einsum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = torch.einsum('bhqd,bhkd->bhqk', query, key).softmax(-1)
    return torch.einsum('bhqk,bhkd->bhqd', scores, value)


def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    mask = torch.ones(TOKENS, KEYS, dtype=torch.bool)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


@pytest.mark.parametrize(
    'attention',
    [F.scaled_dot_product_attention, masked, by_hand, by_einsum],
    ids=['fused', 'masked', 'products', 'einsum'],
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_attention(attention, dtype):
    query = torch.randn(BATCH, HEADS, TOKENS, DIM, dtype=dtype)
    key, value = torch.randn(2, BATCH, HEADS, KEYS, DIM, dtype=dtype)
    counts = count(attention, query, key, value)
    assert counts.total == SCORES_AND_VALUES
    assert not counts.not_counted


@pytest.mark.parametrize('need_weights', [False, True])
def test_multi_head_attention(need_weights):
    attention = nn.MultiheadAttention(WIDE, HEADS, batch_first=True)
    query, key = torch.randn(BATCH, TOKENS, WIDE), torch.randn(BATCH, KEYS, WIDE)
    counts = count(lambda *args: attention(*args, need_weights=need_weights), query, key, key)
    projections = BATCH * WIDE**2 * (2 * TOKENS + 2 * KEYS)
    assert counts.total == projections + SCORES_AND_VALUES


def test_fused_transformer_layer_is_looked_into():
    layer = nn.TransformerEncoderLayer(WIDE, HEADS, dim_feedforward=64, batch_first=True)
    counts = count(layer, torch.randn(BATCH, TOKENS, WIDE))
    attention = 4 * BATCH * TOKENS * WIDE**2 + 2 * BATCH * TOKENS**2 * WIDE
    assert counts.total == attention + 2 * BATCH * TOKENS * WIDE * 64
    assert not counts.not_counted


A, B = torch.randn(3, 4, 5), torch.randn(3, 5, 6)
PRODUCTS = {
    'bmm': (torch.bmm, (A, B), 360),
    'baddbmm': (torch.baddbmm, (torch.zeros(3, 4, 6), A, B), 360),
    'baddbmm_': (Tensor.baddbmm_, (torch.zeros(3, 4, 6), A, B), 360),
    'addbmm': (torch.addbmm, (torch.zeros(4, 6), A, B), 360),
    'addmm': (torch.addmm, (torch.zeros(4, 6), A[0], B[0]), 120),
    'addmm_': (Tensor.addmm_, (torch.zeros(4, 6), A[0], B[0]), 120),
    'mv': (torch.mv, (A[0], B[0, :, 0]), 20),
    'addmv': (torch.addmv, (torch.zeros(4), A[0], B[0, :, 0]), 20),
    'dot': (torch.dot, (A[0, 0], B[0, :, 0]), 5),
    'matmul': (torch.matmul, (A, B[0]), 360),
    'einsum': (lambda a, b: torch.einsum('bij,bjk->bik', a, b), (A, B), 360),
    'linear': (F.linear, (A, torch.randn(7, 5), torch.randn(7)), 3 * 4 * 5 * 7),
    'conv': (nn.Conv2d(4, 6, 3), (torch.randn(2, 4, 7, 9),), 2 * 5 * 7 * 9 * 4 * 6),
    'grouped conv': (nn.Conv2d(4, 6, 3, groups=2), (torch.randn(2, 4, 7, 9),), 2 * 35 * 9 * 2 * 6),
    'depthwise conv': (nn.Conv1d(4, 4, 3, groups=4), (torch.randn(2, 4, 7),), 2 * 5 * 3 * 4),
    'transposed conv': (
        nn.ConvTranspose2d(4, 6, 2, 2),
        (torch.randn(2, 4, 7, 9),),
        2 * 63 * 4 * 4 * 6,
    ),
}


@pytest.mark.parametrize('name', PRODUCTS)
def test_product(name):
    function, args, expected = PRODUCTS[name]
    counts = count(function, *args)
    assert counts.total == expected
    assert not counts.not_counted


OURS = {  # on tensors without values: it is not the kernels that are counted
    'silu_correlation': ((torch.empty(2, 7, 20, device='meta'), 4, 28), 2 * 7 * 4 * 16),
    'pool_tokens': ((torch.empty(2, 5, 6, 4, device='meta'), torch.float32), 0),
    'pool_grid': ((torch.empty(2, 5, 6, 4, device='meta'), 3), 0),
    'bounded_update': (
        (torch.empty(2, 3, 4, device='meta'), torch.empty(3, 4, device='meta'), torch.float32),
        0,
    ),
}


@needs.custom_operators
@pytest.mark.parametrize('name', OURS)
def test_operators_of_this_project(name):
    args, expected = OURS[name]
    counts = count(getattr(torch.ops.weightformer_mm, name), *args)
    assert counts.total == expected
    assert not counts.not_counted


@needs.triton
@needs.custom_operators
@pytest.mark.parametrize('images', [1, 2])
def test_kernels_for_a_gpu_count_as_much_as_pytorch(images):
    with FakeTensorMode():
        counts = []
        for device, backend in (('cpu', 'torch'), ('cuda', 'triton')):
            x = torch.randn(2, 7, 9, 4, device=device)
            kernel = torch.randn(images, 4, 1, 3, 3, device=device)
            vectors = torch.randn(3, 4, device=device)
            options = {'eps': 1e-6, 'backend': backend}
            conv = count(
                functools.partial(ops.depthwise_conv, backend=backend), x, kernel, vectors[0]
            )
            norm = count(functools.partial(ops.depthwise_conv_norm, **options), x, kernel, *vectors)
            assert not conv.not_counted and not norm.not_counted
            counts.append((conv.total, norm.total))
    assert counts == [(2 * 7 * 9 * 4 * 9,) * 2] * 2


@needs.custom_operators
def test_the_gradients_of_the_depthwise_conv_count_twice():
    with FakeTensorMode():
        shapes = [(2, 7, 9, 4), (2, 4, 1, 3, 3), (4,)]
        args = [torch.randn(shape, requires_grad=True) for shape in shapes]
        with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
            triton.depthwise_conv(*args, True).sum().backward()
    assert counter.get_total_flops() == 2 * 3 * (2 * 7 * 9 * 4 * 9)


IMAGE = torch.randn(1, 4, 8, 8)
FREE = {
    'norms': (nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)), IMAGE),
    'layer norm': (nn.LayerNorm(8), IMAGE),
    'activations': (nn.Sequential(nn.ReLU(True), nn.GELU(), nn.SiLU(), nn.PReLU()), IMAGE),
    'gates': (nn.Sequential(nn.GLU(1), nn.Hardswish(True), nn.LeakyReLU()), IMAGE),
    'softmax': (
        nn.Sequential(nn.Softmax(1), nn.LogSoftmax(2), nn.Softplus(), nn.Mish(True)),
        IMAGE,
    ),
    'pooling': (nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)), IMAGE),
    'resizing': (nn.Sequential(nn.Upsample(scale_factor=2), nn.UpsamplingBilinear2d(9)), IMAGE),
    'elementwise': (lambda x: (x * x + 1).div_(3).clamp(0).where(x > 0, x.exp()), IMAGE),
    'moving': (lambda x: torch.cat([x.flip(1), x.roll(1, 2)]).permute(1, 0, 2, 3).flatten(), IMAGE),
    'reducing': (lambda x: x.sum() + x.mean(1).amax() + x.std() + x.norm(), IMAGE),
    'sorting': (lambda x: x.flatten().topk(3)[0] + x.flatten().sort()[1][:3], IMAGE),
    'shuffling': (nn.Sequential(nn.PixelShuffle(2), nn.Unfold(3), nn.ReflectionPad1d(1)), IMAGE),
    'indexing': (lambda x: x[:, [0, 2]][x[:, [0, 2]] > 0].cumsum(0), IMAGE),
}


@pytest.mark.parametrize('name', FREE)
def test_free_by_convention(name):
    function, *args = FREE[name]
    counts = count(function, *args)
    assert counts.total == 0
    assert not counts.not_counted
    assert counts.free


@pytest.fixture
def operator():
    """An operator with arithmetic inside that PyTorch's counter cannot know."""
    library = torch.library.Library('wf_test', 'DEF')
    library.define('mystery(Tensor x) -> Tensor')
    library.define('mystery_out(Tensor x, Tensor(a!) out) -> ()')
    library.impl('mystery', lambda x: torch.from_numpy(x.numpy() @ x.numpy()), 'CPU')
    library.impl('mystery_out', lambda x, out: None, 'CPU')
    yield torch.ops.wf_test
    if hasattr(library, '_destroy'):  # torch 2.1 does it where the library is let go of
        library._destroy()


def test_unknown_operation_is_named(operator):
    def function(x: Tensor) -> None:
        operator.mystery(operator.mystery(x))
        operator.mystery_out(x, torch.empty(3))

    counts = count(function, torch.randn(3, 3))
    assert counts.not_counted == {'wf_test::mystery': 2, 'wf_test::mystery_out': 1}


@pytest.mark.parametrize(
    ('name', 'function', 'args'),
    [
        ('aten::grid_sampler_2d', F.grid_sample, (IMAGE, torch.zeros(1, 2, 2, 2))),
        ('aten::_fft_r2c', torch.fft.rfft, (IMAGE,)),
        ('mmcv::roi_align', RoIAlign(2), (IMAGE, torch.tensor([[0.0, 1, 1, 5, 5]]))),
        ('mmcv::nms', lambda *args: nms(*args, 0.5), (torch.rand(5, 4), torch.rand(5))),
    ],
)
@pytest.mark.filterwarnings('ignore:Default grid_sample')
def test_not_counted(name, function, args):
    counts = count(function, *args)
    assert counts.not_counted == {name: 1}


@pytest.mark.parametrize(
    ('layer', 'args', 'expected'),
    [
        (DeformConv2d(4, 6, 3, padding=1), (IMAGE, torch.zeros(1, 18, 8, 8)), 64 * 9 * 4 * 6),
        (ModulatedDeformConv2dPack(4, 6, 3, padding=1), (IMAGE,), 64 * 9 * 4 * (6 + 27)),
    ],
    ids=['v1', 'v2'],
)
def test_products_inside_a_deformable_convolution(layer, args, expected):
    counts = count(layer, *args)
    assert counts.total == expected
    assert len(counts.not_counted) == 1


def test_no_proposals_are_no_unknown_operation():
    assert not count(F.linear, torch.randn(0, 4), torch.randn(3, 4), torch.randn(3)).not_counted


class Net(nn.Module):
    """Calls one child, the forward of another, and a product of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.second.forward(self.first(x)) @ torch.zeros(6, 2)


def test_modules():
    counts = count(Net(), torch.randn(3, 4))
    modules = {name: number for (name, _), number in counts.multiply_adds.items()}
    assert modules == {'first': 60, 'second.0': 90, '': 36}
    assert counts.elements == {'first': 15, 'second.0': 18, 'second.1': 18, '': 12 + 6}
    assert counts.bytes == {name: 4 * number for name, number in counts.elements.items()}


def test_activations_are_what_is_allocated():
    def function(x: Tensor) -> Tensor:
        y = x.double()  # 6 * 8 bytes
        y.view(3, 2).t().add_(1)
        return torch.cat([y.flatten(), y.reshape(-1)]).split(3)  # 12 * 8 bytes

    counts = count(function, torch.zeros(2, 3))
    assert (counts.elements[''], counts.bytes['']) == (18, 144)


def test_a_product_that_is_only_given_another_shape_is_allocated_once():
    counts = count(torch.matmul, A, B[0])  # a product of two matrices, then a view
    assert 'aten::mm' in {operation for _, operation in counts.multiply_adds}
    assert counts.elements[''] == 3 * 4 * 6


def test_model_is_left_as_it_was():
    import mmcv._ext

    model = Net()
    model.first.forward = own = model.first.forward
    before = mmcv._ext.nms
    with pytest.raises(RuntimeError), count_operations(model):
        model(torch.randn(3, 5))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.first.forward is own
    assert 'forward' not in vars(model.second)
    assert mmcv._ext.nms is before
    if hasattr(torch.backends, 'mha'):  # torch >= 2.3
        assert torch.backends.mha.get_fastpath_enabled()
    assert not torch.overrides.has_torch_function((torch.zeros(1),))
