"""Both networks compile whole, for any image size, and give what they give uncompiled."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import needs
from tests.helpers.contract import build
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.layers import DynamicDepthwiseConv2d, DynamicLinear

PYRAMID = (PyramidWeightFormer, dict(embed_dims=(32, 64), depths=(1, 1)), dict(out_indices=(0, 1)))
DILATED = (
    PyramidWeightFormer,
    dict(embed_dims=(32, 64, 64), depths=(1, 1, 3)),
    dict(out_indices=2, output_stride=8),
)
ISOTROPIC = (WeightFormer, dict(embed_dims=16, depth=2), {})
# from 160 pixels on: on a CPU, PyTorch compiles dense convolutions anew for maps of less than 20 480 elements
SIZES = [(160, 192), (160, 160), (167, 203), (256, 224), (192, 320)]
SQUARE_FIRST = [(160, 160), *SIZES[2:], SIZES[0]]
MODES = {
    'inference': {},
    'training': {},
    'memory_efficient': dict(memory_efficient=True),
    'with_cp': dict(with_cp=True),
}


# each mode, each network, and one image and several, which are compiled differently; after a square, whose
# sides PyTorch takes for one number, another size takes a second compilation
CASES = [
    (PYRAMID, 'inference', 3, SQUARE_FIRST),
    (PYRAMID, 'memory_efficient', 1, SIZES),
    (DILATED, 'training', 3, SIZES[:3]),
    (ISOTROPIC, 'training', 3, SIZES),
    (ISOTROPIC, 'with_cp', 1, SIZES),
]


class Compilations:
    """A compiler backend without code generation that counts how often it is called."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return torch._dynamo.lookup_backend('aot_eager')(graph, inputs)


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@needs.custom_operators
@pytest.mark.parametrize(
    ('network', 'mode', 'batch', 'sizes'),
    CASES,
    ids=[f'{network[0].__name__}-{mode}-{batch}' for network, mode, batch, _ in CASES],
)
def test_five_image_sizes_take_a_compilation_or_two(network, mode, batch, sizes):
    backbone, arch, options = network
    model = build(backbone, arch, drop_path_rate=0.2, **options, **MODES[mode])
    model.train(mode != 'inference')
    compilations = Compilations()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=compilations)
    for size in sizes:
        results = compare(compiled, model, torch.randn(batch, 3, *size))
        for result, expected in zip(*results):
            # sums over all tokens, in another order
            scale = float(expected.abs().max())
            assert float((result - expected).abs().max()) <= 1e-4 * scale
    assert compilations.count <= (2 if sizes == SQUARE_FIRST else 1)


def compare(compiled, model, image):
    """Outputs, and in training the gradients, of both."""
    results = []
    for function in (compiled, model):
        model.zero_grad()
        torch.manual_seed(0)
        with torch.set_grad_enabled(model.training):
            outputs = function(image)
        if model.training:
            torch.manual_seed(1)
            torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
        outputs = [output.detach() for output in outputs]
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append([*outputs, *gradients])
    assert len(results[0]) == len(results[1])
    return results


class DynamicLayers(nn.Module):
    """Both dynamic layers behind a patch embedding, where the sides of the map are expressions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, kernel_size=8, stride=8)
        self.conv = DynamicDepthwiseConv2d(6)
        self.linear = DynamicLinear(6, 12)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, image):
        padded = F.pad(image, (0, -image.shape[3] % 8, 0, -image.shape[2] % 8))
        return [self.linear(self.conv(self.embed(padded).permute(0, 2, 3, 1)))]


@needs.custom_operators
@pytest.mark.timeout(900)  # compiles C++
def test_inductor_computes_the_same_on_maps_that_grow():
    """What the first compilation took for granted of the size shows on a later, larger map."""
    torch.manual_seed(0)
    model = DynamicLayers().eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for size in [(64, 96), (80, 112), (49, 151)]:
        for result, expected in zip(*compare(compiled, model, torch.randn(2, 3, *size))):
            # sums of at most 192 terms, and of 9
            assert float((result - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
