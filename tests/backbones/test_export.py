"""An exported or traced network gives what the network gives, for every size and batch."""

from __future__ import annotations

import inspect
import io
import subprocess
import sys

import pytest
import timm
import torch

from weightformer_mm import ops
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.backbones.strategies import compared_strategies
from weightformer_mm.ops._shared import dispatch
from weightformer_mm.timm_models import MODEL_NAMES

TRACED = (2, 3, 96, 80)
# odd and even sides and maps, smaller and larger than the traced ones, and maps of 2x2
SHAPES = [(1, 33, 47), (2, 64, 64), (3, 97, 161), (2, 144, 144), (1, 256, 192), (3, 33, 47)]
TWO_STAGES = dict(arch=dict(embed_dims=(8, 16), depths=(1, 1)), out_indices=(0, 1))
AXES = {0: 'batch', 2: 'height', 3: 'width'}
NETWORKS = {
    'pyramid': lambda **options: PyramidWeightFormer(**{**TWO_STAGES, **options}, dynamic_every=1),
    'isotropic': lambda **options: WeightFormer(arch=dict(embed_dims=8, depth=2), **options),
}
exports = pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'), reason='needs to know of an export, torch >= 2.7'
)
CASES = [(network, name) for network in NETWORKS for name in compared_strategies()]
each_network_and_strategy = pytest.mark.parametrize(('network', 'strategy'), CASES)
each_network = pytest.mark.parametrize('network', NETWORKS)


# with maps of 2x2 cells, which are pooled to one token
FOUR_STAGES = dict(arch=dict(embed_dims=(8, 8, 8, 16), depths=(1, 1, 1, 1)), out_indices=-1)


def build(network, strategy='published', **options):
    """A network whose weights are large enough for predictions to matter."""
    torch.manual_seed(0)
    model = NETWORKS[network](**compared_strategies()[strategy], **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model


def compare(run, model, shapes=SHAPES):
    for batch, height, width in shapes:
        image = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            expected, outputs = model(image), run(image)
        expected = [expected] if isinstance(expected, torch.Tensor) else expected
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        assert len(outputs) == len(expected)
        for output, truth in zip(map(torch.as_tensor, outputs), expected):
            assert output.shape == truth.shape
            # sums over all tokens, in another order
            assert float((output - truth).abs().max()) <= 1e-4 * float(truth.abs().max())


def onnx_runner(model, image, axes=AXES, **options):
    runtime = pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    pytest.importorskip('onnxscript', reason='needs onnxscript')
    runtime.set_default_logger_severity(4)
    file = io.BytesIO()
    if options['dynamo']:
        dims = {axis: torch.export.Dim.DYNAMIC for axis in axes}
        options.update(dynamic_shapes=(dims,), verbose=False)
    else:
        options.update(dynamic_axes={'image': axes})
    target = None if options['dynamo'] else file
    program = torch.onnx.export(model, (image,), target, input_names=['image'], **options)
    if program is not None:
        program.save(file)
    session = runtime.InferenceSession(file.getvalue())
    return lambda x: session.run(None, {'image': x.numpy()})


@each_network_and_strategy
def test_a_traced_network(network, strategy):
    model = build(network, strategy)
    compare(torch.jit.trace(model, torch.randn(TRACED), check_trace=False), model)


@pytest.mark.parametrize('options', [dict(with_cp=True), dict(memory_efficient=True)], ids=str)
def test_a_network_traced_with_gradients_at_a_batch_of_one(options):
    model = build('pyramid', **options)
    traced = torch.jit.trace(model, torch.randn(1, *TRACED[1:]), check_trace=False)
    compare(torch.jit.optimize_for_inference(torch.jit.freeze(traced)), model)


@each_network_and_strategy
def test_the_older_onnx_exporter(network, strategy):
    model = build(network, strategy)
    compare(onnx_runner(model, torch.randn(TRACED), dynamo=False, opset_version=17), model)


@pytest.mark.parametrize('output_stride', [8, 32])
def test_four_stages(output_stride):
    model = build('pyramid', **FOUR_STAGES, output_stride=output_stride)
    shapes = [*SHAPES, (2, 4, 37)]  # the last with maps of one row
    compare(torch.jit.trace(model, torch.randn(TRACED), check_trace=False), model, shapes)
    compare(onnx_runner(model, torch.randn(TRACED), dynamo=False, opset_version=17), model, shapes)


@exports
@each_network
def test_the_newer_onnx_exporter(network):
    model = build(network)
    compare(onnx_runner(model, torch.randn(TRACED), dynamo=True), model)


@pytest.mark.parametrize('name', MODEL_NAMES)
def test_timm_exports_every_entry_point_with_a_dynamic_batch(name):
    isotropic = name.startswith('weightformer')
    arch = dict(embed_dims=8, depth=2) if isotropic else TWO_STAGES['arch']
    torch.manual_seed(0)
    model = timm.create_model(name, arch=arch, num_classes=5, exportable=True).eval()
    run = onnx_runner(model, torch.randn(2, 3, 64, 64), axes={0: 'batch'}, dynamo=False)
    compare(run, model, [(batch, 64, 64) for batch in (1, 2, 3)])


@pytest.mark.parametrize('name', ['pyramid_weightformer_tiny', 'weightformer_tiny'])
def test_timm_has_a_command_that_exports(name, tmp_path):
    timm_onnx = pytest.importorskip('timm.utils.onnx')
    runtime = pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    pytest.importorskip('onnx', reason='needs onnx')
    arch = TWO_STAGES['arch'] if name.startswith('pyramid') else dict(embed_dims=8, depth=2)
    torch.manual_seed(0)
    model = timm.create_model(name, arch=arch, num_classes=5, exportable=True)
    path = str(tmp_path / 'model.onnx')
    options = dict(batch_size=2, input_size=(3, *TRACED[2:]), opset=17, dynamic_size=True)
    timm_onnx.onnx_export(model, path, check_forward=True, **options)
    session = runtime.InferenceSession(path)
    compare(lambda x: session.run(None, {'input0': x.numpy()}), model)


LOAD = """
import sys, torch
program = torch.export.load(sys.argv[1]).module(check_guards=False)
assert not any(name.startswith('weightformer_mm') for name in sys.modules)
torch.save(program(torch.load(sys.argv[2])), sys.argv[3])
"""


programs = pytest.mark.skipif(
    'check_guards' not in inspect.signature(torch.export.ExportedProgram.module).parameters,
    reason='needs a program that runs without its guards, torch >= 2.9',
)


@programs
@pytest.mark.parametrize('strategy', compared_strategies())
def test_an_exported_program(strategy):
    model = build('pyramid', strategy)
    dims = {axis: torch.export.Dim.DYNAMIC for axis in AXES}
    program = torch.export.export(
        model, (torch.randn(TRACED),), dynamic_shapes=(dims,), strict=False
    )
    compare(program.module(check_guards=False), model)


@programs
@pytest.mark.parametrize(('network', 'strict'), [('pyramid', False), ('isotropic', True)])
def test_an_exported_program_loads_without_this_package(network, strict, tmp_path):
    model, image = build(network), torch.randn(TRACED)
    dims = {axis: torch.export.Dim.DYNAMIC for axis in AXES}
    program = torch.export.export(model, (image,), dynamic_shapes=(dims,), strict=strict)
    compare(program.module(check_guards=False), model)
    files = [str(tmp_path / name) for name in ('program.pt2', 'image.pt', 'outputs.pt')]
    torch.export.save(program, files[0])
    torch.save(image[:1], files[1])
    command = [sys.executable, '-c', LOAD, *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    outputs = torch.load(files[2])
    with torch.no_grad():
        for output, truth in zip(outputs, model(image[:1])):
            torch.testing.assert_close(output, truth, rtol=1e-4, atol=1e-5)


SIZES = [(1, 1), (1, 2), (2, 5), (3, 1), (4, 7), (9, 8), (11, 13)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('batch', [1, 3])
def test_the_exported_form_of_each_operation_is_the_reference(batch, size, monkeypatch):
    torch.manual_seed(0)
    x = torch.randn(batch, *size, 4, dtype=torch.float64)
    kernel, bias = torch.randn(batch, 4, 1, 3, 3).double(), torch.randn(4).double()
    weights = [torch.randn(batch, 4, 6), torch.randn(6), torch.randn(4, 6), torch.randn(4)]
    parameters = [torch.ones(4), torch.zeros(4), *weights]

    def run():
        return [
            ops.pool_tokens(x),
            ops.pool_grid(x, 3),
            ops.depthwise_conv(x, kernel, bias, residual=True),
            ops.residual_mlp(x, *(parameter.double() for parameter in parameters)),
        ]

    expected = run()
    for module in (dispatch, ops.mlp.reference):
        monkeypatch.setattr(module, 'is_exporting', lambda: True)
    for result, truth in zip(run(), expected):
        torch.testing.assert_close(result, truth, rtol=1e-12, atol=1e-12)
