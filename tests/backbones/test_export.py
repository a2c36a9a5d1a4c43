"""What is exported or traced serves the size that it was made for, and refuses every other one."""

from __future__ import annotations

import io

import pytest
import timm
import torch

import weightformer_mm.timm_models  # noqa: F401
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer

SHAPE = (2, 3, 48, 48)
# among them sizes of as many elements, and of 1, which views and expansions would take
OTHERS = [
    (1, 3, 48, 48),
    (3, 3, 48, 48),
    (2, 1, 48, 48),
    (2, 3, 48, 64),
    (2, 3, 64, 48),
    (2, 3, 36, 64),
    (2, 3, 96, 96),
    (2, 3, 1, 48),
]
NETWORKS = {
    'pyramid': lambda **options: PyramidWeightFormer(
        arch=dict(embed_dims=(8, 16), depths=(1, 1)), out_indices=(0, 1), **options
    ),
    'isotropic': lambda **options: WeightFormer(arch=dict(embed_dims=8, depth=2), **options),
    'classifier': lambda **options: timm.create_model(
        'pyramid_weightformer_tiny',
        arch=dict(embed_dims=(8, 16), depths=(1, 1)),
        num_classes=5,
        **options,
    ),
}
DYNAMIC = {'batch': 0, 'height': 2, 'width': 3}
MESSAGE = (
    r'cannot be exported with a dynamic {}.*export it with fixed sizes.*one file for each size'
)
each_network = pytest.mark.parametrize('network', NETWORKS)
exports = pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'), reason='needs to know of an export, torch >= 2.7'
)


def build(network, **options):
    torch.manual_seed(0)
    return NETWORKS[network](**options).eval()


def compare(outputs, model, image):
    expected = model(image)
    expected = [expected] if isinstance(expected, torch.Tensor) else expected
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    assert len(outputs) == len(expected)
    for output, truth in zip(outputs, expected):
        torch.testing.assert_close(torch.as_tensor(output), truth, rtol=1e-4, atol=1e-5)


@exports
@pytest.mark.parametrize('strict', [False, True])
@pytest.mark.parametrize('axis', [*DYNAMIC, 'automatic'])
@each_network
def test_a_dynamic_axis_is_refused_in_one_line(network, axis, strict):
    image = torch.randn(SHAPE)
    if axis == 'automatic':
        axis, dims = 'height', {2: torch.export.Dim.AUTO}
    else:
        dims = {DYNAMIC[axis]: torch.export.Dim(axis)}
    with pytest.raises(ValueError, match=MESSAGE.format(axis)) as caught:
        torch.export.export(build(network), (image,), dynamic_shapes=(dims,), strict=strict)
    assert '\n' not in str(caught.value).split('\nfrom user code')[0].strip()


@exports
@pytest.mark.parametrize(
    ('network', 'strict'), [*((network, False) for network in NETWORKS), ('pyramid', True)]
)
def test_an_export_of_one_size_is_the_network(network, strict):
    model, image = build(network), torch.randn(SHAPE)
    program = torch.export.export(model, (image,), strict=strict).module()
    compare(program(image), model, image)
    for shape in OTHERS:
        with pytest.raises((AssertionError, RuntimeError)):
            program(torch.randn(shape))


@pytest.mark.parametrize('optimised', [False, True])
@each_network
def test_a_traced_network_refuses_other_sizes(network, optimised):
    model, image = build(network), torch.randn(SHAPE)
    traced = torch.jit.trace(model, image)
    if optimised:
        traced = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    for _ in range(3):  # the first runs are profiled, and then optimised
        compare(traced(image), model, image)
        for shape in OTHERS:
            with pytest.raises(RuntimeError, match='split_sizes'):
                traced(torch.randn(shape))


def test_a_traced_network_in_a_script_refuses_other_sizes():
    model, image = build('pyramid'), torch.randn(SHAPE)
    traced = torch.jit.trace(model, image)

    class Doubled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = traced

        def forward(self, x):
            return self.inner(2 * x)

    scripted = torch.jit.script(Doubled())
    compare(scripted(image), model, 2 * image)
    with pytest.raises(RuntimeError, match='split_sizes'):
        scripted(torch.randn(OTHERS[0]))


def onnx_session(model, image, **options):
    runtime = pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    pytest.importorskip('onnxscript', reason='needs onnxscript')
    runtime.set_default_logger_severity(4)
    file = io.BytesIO()
    target = None if options['dynamo'] else file
    program = torch.onnx.export(model, (image,), target, input_names=['image'], **options)
    if program is not None:
        program.save(file)
    return runtime.InferenceSession(file.getvalue())


@pytest.mark.parametrize('dynamo', [False, True])
@each_network
def test_onnx_of_one_size(network, dynamo):
    # the older exporter has no grid of means for a padded image
    model, image = build(network, dynamic_conv='adaptive' if dynamo else 'gap'), torch.randn(SHAPE)
    session = onnx_session(model, image, dynamo=dynamo)
    compare(session.run(None, {'image': image.numpy()}), model, image)
    for shape in OTHERS:
        with pytest.raises(Exception, match='INVALID_ARGUMENT'):
            session.run(None, {'image': torch.randn(shape).numpy()})


@each_network
def test_the_older_onnx_exporter_with_dynamic_axes(network):
    """It cannot export the grid of means so; another strategy's file refuses other sizes when it runs."""
    axes = dict(dynamo=False, dynamic_axes={'image': {0: 'b', 1: 'c', 2: 'h', 3: 'w'}})
    model, image = build(network, dynamic_conv='gap'), torch.randn(SHAPE)
    session = onnx_session(model, image, **axes)
    compare(session.run(None, {'image': image.numpy()}), model, image)
    for shape in OTHERS:
        with pytest.raises(Exception, match='Split'):
            session.run(None, {'image': torch.randn(shape).numpy()})
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match='adaptive_avg_pool2d'):
        onnx_session(build(network), image, **axes)


@exports
@each_network
def test_the_newer_onnx_exporter_with_dynamic_shapes(network):
    pytest.importorskip('onnxscript', reason='needs onnxscript')
    dims = {2: torch.export.Dim('height')}
    with pytest.raises(Exception, match=MESSAGE.format('height')):
        torch.onnx.export(
            build(network),
            (torch.randn(SHAPE),),
            dynamo=True,
            dynamic_shapes=(dims,),
            verbose=False,
        )
