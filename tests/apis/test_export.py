"""A file gives what its model gives in its own pipeline, at sizes that were not traced, or is not there."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.helpers.commands import CLASSIFICATION, DETECTION, ROOT, SEGMENTATION
from tests.helpers.exported import images, preprocessed, run, save_weights
from tests.helpers.reduced import reduce_backbone
from weightformer_mm.apis import export as exporting
from weightformer_mm.apis import exported_model, inference, init_model
from weightformer_mm.apis.export import Form, export
from weightformer_mm.config.read import load_config
from weightformer_mm.errors import LibraryMissing, UserError
from weightformer_mm.version import __version__

onnxruntime = pytest.importorskip('onnxruntime', reason='needs onnxruntime')
onnx = pytest.importorskip('onnx', reason='needs onnx')

TRACED = (96, 80)
SHAPE = (2, 75, 131)
FORM = Form(size=TRACED)
WIDTHS = [8, 16, 24, 32]
ALL = dict(in_channels=WIDTHS, in_index=[0, 1, 2, 3], channels=8, num_classes=7)
# the first two keep numbers of the traced size: cells of a pooling, and a factor of an upsampling
HEADS = {
    'upernet': {},
    'sem-fpn': dict(
        neck=dict(type='FPN', in_channels=WIDTHS, out_channels=8, num_outs=4),
        decode_head=dict(
            **dict(ALL, in_channels=[8] * 4), type='FPNHead', feature_strides=[4, 8, 16, 32]
        ),
    ),
    'isotropic': dict(
        backbone=dict(type='WeightFormer', arch=dict(embed_dims=8, depth=1)),
        neck=dict(type='SimpleFeaturePyramid', in_channels=8, out_channels=8, num_outs=5),
        decode_head=dict(ALL, type='SegformerHead', in_channels=[8] * 4),
    ),
    'segformer-of-one-class': dict(
        decode_head=dict(ALL, type='SegformerHead', num_classes=2, out_channels=1, threshold=0.55)
    ),
}
PADDING = dict(size_divisor=32)
PREPROCESSORS = {
    'as-the-image': {},
    'padded': dict(type='SegDataPreProcessor', test_cfg=PADDING),
    'padded-maps': dict(test_cfg=PADDING),
}


def config_of(path: Path, **model) -> Config:
    """A config with other parts in its model."""
    cfg = load_config(path)
    for name, part in model.items():
        cfg.model[name] = part
    return cfg


@pytest.fixture
def weights(tmp_path):
    return lambda cfg: save_weights(cfg, tmp_path / 'weights.pth')


def close(output, truth) -> bool:
    return float((output - truth).abs().max()) <= 1e-4 * float(truth.abs().max())


@pytest.mark.parametrize(
    ('head', 'preprocessor'),
    [
        *((head, 'none') for head in HEADS),
        *(('upernet', name) for name in PREPROCESSORS),
        ('isotropic', 'padded-maps'),
    ],
)
def test_a_segmentor_labels_as_its_own_pipeline(head, preprocessor, weights, tmp_path, capsys):
    cfg = config_of(SEGMENTATION, **HEADS[head])
    cfg.model.data_preprocessor.update(PREPROCESSORS.get(preprocessor, {}))
    checkpoint, with_preprocessing = weights(cfg), preprocessor != 'none'
    path = export(cfg, checkpoint, tmp_path / 'a.onnx', FORM, False, with_preprocessing)
    assert capsys.readouterr().out.count('largest difference') == 5
    model = init_model(cfg, checkpoint, 'cpu')
    samples = inference(model, images(SHAPE))
    image = np.stack(images(SHAPE)) if with_preprocessing else preprocessed(model, images(SHAPE))
    (labels,) = run(path, image)
    truth = torch.stack([sample.pred_sem_seg.data[0] for sample in samples])
    assert labels.shape == truth.shape == SHAPE and len(truth.unique()) > 1
    # two classes may be equal to the last digit
    assert (labels != truth).float().mean() < 1e-3


@pytest.mark.parametrize('divisor', [1, 32])
def test_a_classifier(divisor, weights, tmp_path):
    cfg = config_of(CLASSIFICATION)
    cfg.model.data_preprocessor.pad_size_divisor = divisor
    checkpoint = weights(cfg)
    path = export(cfg, checkpoint, tmp_path / 'a.onnx', FORM, with_preprocessing=True)
    samples = inference(init_model(cfg, checkpoint, 'cpu'), images(SHAPE))
    (scores,) = run(path, np.stack(images(SHAPE)))
    assert close(scores, torch.stack([sample.pred_score for sample in samples]))


@pytest.mark.parametrize('with_preprocessing', [False, True])
def test_the_backbone_of_a_detector(with_preprocessing, weights, tmp_path):
    checkpoint = weights(DETECTION)
    path = export(DETECTION, checkpoint, tmp_path / 'a.onnx', FORM, True, with_preprocessing)
    model = init_model(DETECTION, checkpoint, 'cpu')
    prepared = preprocessed(model, images(SHAPE))
    if not with_preprocessing:  # a copy has no note of the sizes before padding
        prepared = prepared.clone()
    with torch.no_grad():
        expected = model.backbone(prepared)
    maps = run(path, np.stack(images(SHAPE)) if with_preprocessing else prepared)
    assert len(maps) == len(expected) == 4
    assert all(x.shape == y.shape and close(x, y) for x, y in zip(maps, expected))
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(properties['strides']) == [4, 8, 16, 32]


def test_half_precision(weights, tmp_path):
    """Half the size; backbone maps within some roundings of float16, whatever their images."""
    checkpoint, paths = weights(DETECTION), {}
    for half in (False, True):
        out, form = tmp_path / f'{half}.onnx', Form(size=TRACED, half=half)
        paths[half] = export(DETECTION, checkpoint, out, form, True, with_preprocessing=True)
    sizes = [
        sum(weight.ByteSize() for weight in onnx.load(path).graph.initializer)
        for path in paths.values()
    ]
    assert 0.4 < sizes[1] / sizes[0] < 0.7
    given = np.stack(images(SHAPE))
    for x, y in zip(*(run(path, given) for path in paths.values())):
        assert x.dtype == y.dtype == torch.float32 and not x.equal(y)
        assert (x - y).abs().max() < 2e-2 * x.abs().max()


def test_the_file_says_what_it_is(weights, tmp_path):
    path = export(SEGMENTATION, weights(SEGMENTATION), tmp_path / 'a.onnx', FORM)
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(properties['classes'])[:2] == ['background', 'disk']
    assert json.loads(properties['palette'])[0] == [90, 90, 90]
    assert properties['version'] == __version__
    cfg = Config.fromstring(properties['config'], '.py')
    assert cfg.model.decode_head.channels == 16
    session = onnxruntime.InferenceSession(str(path))
    assert [x.name for x in session.get_outputs()] == ['labels']
    assert session.get_inputs()[0].shape == ['batch', 3, 'height', 'width']


def test_only_what_is_dynamic_varies(weights, tmp_path):
    checkpoint = weights(CLASSIFICATION)
    for dynamic, shape in {('batch',): ['batch', 3, 64, 96], (): [1, 3, 64, 96]}.items():
        form = Form(size=(64, 96), dynamic=dynamic, opset=18)
        path = export(CLASSIFICATION, checkpoint, tmp_path / 'a.onnx', form)
        assert onnxruntime.InferenceSession(str(path)).get_inputs()[0].shape == shape
        assert onnx.load(path).opset_import[0].version == 18


def test_torchscript(weights, tmp_path):
    checkpoint = weights(SEGMENTATION)
    form = Form('torchscript', TRACED)
    path = export(SEGMENTATION, checkpoint, tmp_path / 'a.pt', form, with_preprocessing=True)
    files = {exporting.METADATA: ''}
    script = torch.jit.load(str(path), _extra_files=files)
    assert json.loads(files[exporting.METADATA])['version'] == __version__
    assert not any('auxiliary' in name for name, _ in script.named_parameters())
    labels = script(torch.from_numpy(np.stack(images(SHAPE))))
    samples = inference(init_model(SEGMENTATION, checkpoint, 'cpu'), images(SHAPE))
    truth = torch.stack([sample.pred_sem_seg.data[0] for sample in samples])
    assert (labels != truth).float().mean() < 1e-3


@pytest.mark.skipif(
    'check_guards' not in inspect.signature(torch.export.ExportedProgram.module).parameters,
    reason='needs a program that runs without its guards, torch >= 2.9',
)
def test_torch_export(weights, tmp_path):
    checkpoint = weights(CLASSIFICATION)
    form = Form('torch-export', TRACED)
    path = export(CLASSIFICATION, checkpoint, tmp_path / 'a.pt2', form, with_preprocessing=True)
    files = {exporting.METADATA: ''}
    program = torch.export.load(str(path), extra_files=files)
    assert json.loads(files[exporting.METADATA])['version'] == __version__
    scores = program.module(check_guards=False)(torch.from_numpy(np.stack(images(SHAPE))))
    samples = inference(init_model(CLASSIFICATION, checkpoint, 'cpu'), images(SHAPE))
    assert close(scores, torch.stack([sample.pred_score for sample in samples]))


def test_a_file_that_is_wrong_at_other_sizes_does_not_appear(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, 'use_size_free_layers', lambda model: None)
    (tmp_path / 'out').mkdir()
    for head, message in (
        ('sem-fpn', '^not exported: with a batch of 1, 33x47 pixels the file '),
        ('upernet', '^EncoderDecoder cannot be exported: .*adaptive_avg_pool2d'),
    ):
        cfg = config_of(SEGMENTATION, **HEADS[head])
        with pytest.raises(UserError, match=message):
            export(cfg, weights(cfg), tmp_path / 'out/a.onnx', FORM)
    assert not list((tmp_path / 'out').iterdir())


def test_many_other_labels_are_a_difference_even_of_equal_classes():
    model = init_model(SEGMENTATION, device='cpu')
    network = exporting.exportable(model, False, False).eval()
    for name, values in (('weight', 1e-9), ('bias', torch.tensor([1.0, 1, 0, 0, 0, 0, 0]))):
        getattr(model.decode_head.conv_seg, name).data[:] = values
    with torch.no_grad():
        image = network.example((1, 64, 64), torch.Generator())
        labels = network(image)
        assert network.difference(image, [labels]) == 0
        assert network.difference(image, [1 - labels]) == math.inf
        labels[0, 0, 0] = 1 - labels[0, 0, 0]
        assert network.difference(image, [labels]) < 1e-4


@pytest.mark.parametrize(
    ('config', 'form', 'arguments', 'message'),
    [
        (SEGMENTATION, Form(dynamic=('batch',)), {}, '--dynamic without size: .*--size H W'),
        (SEGMENTATION, Form(size=(0, 3)), {}, '--size 0 3: expected positive'),
        (SEGMENTATION, Form(opset=11), {}, '--opset 11: expected 17 or more'),
        (SEGMENTATION, Form('torchscript'), {}, '--out .*a.onnx: a file of .* ends in .pt$'),
        (
            *(SEGMENTATION, FORM, dict(options=['model.test_cfg.mode=slide'])),
            'EncoderDecoder cannot be exported: segmentors with model.test_cfg.mode=whole',
        ),
    ],
)
def test_refusals_write_nothing(config, form, arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        export(config, None, tmp_path / 'a.onnx', form, **arguments)
    assert not list(tmp_path.iterdir())


def test_models_that_no_file_computes_are_refused(tmp_path):
    fixed, double = config_of(SEGMENTATION), config_of(DETECTION)
    fixed.model.data_preprocessor.test_cfg = dict(size=(64, 64))
    double.model.roi_head.update(type='DoubleHeadRoIHead', reg_roi_scale_factor=1.3)
    queries = load_config(next(ROOT.glob('configs/ade20k/mask2former*.py')))
    reduce_backbone(queries.model)
    for cfg, message in (
        (fixed, '^--with-preprocessing: .*test_cfg.size'),
        (double, '^MaskRCNN cannot be exported: .* add --backbone'),
        (queries, '^EncoderDecoder cannot be exported: .* but for Mask2Former'),
    ):
        with pytest.raises(UserError, match=message):
            export(cfg, None, tmp_path / 'a.onnx', FORM, with_preprocessing=True)
    assert not list(tmp_path.iterdir())


def test_missing_libraries_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(exported_model, 'find_spec', lambda name: None)
    advice = r"onnx and onnxruntime, which .* pip install 'weightformer_mm\[export\]'"
    with pytest.raises(LibraryMissing, match=advice):
        export(SEGMENTATION, None, tmp_path / 'a.onnx', FORM)


def test_the_config_is_not_replaced(tmp_path):
    config = tmp_path / 'config.onnx'
    config.write_text('here')
    with pytest.raises(UserError, match='this file is read'):
        export(str(config), None, config, FORM)
    assert config.read_text() == 'here'
