"""An exported file predicts in the place of the model's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from tests.helpers.exported import images, save_weights
from weightformer_mm.apis import Inferencer, inference, init_model
from weightformer_mm.apis.export import Form, export
from weightformer_mm.apis.predictor import Predictor
from weightformer_mm.apis.test import evaluate
from weightformer_mm.errors import UserError

pytest.importorskip('onnxruntime', reason='needs onnxruntime')
pytest.importorskip('onnx', reason='needs onnx')

FORM = Form(size=(64, 96))
CLOSE = dict(rtol=1e-3, atol=1e-3)


@pytest.fixture
def both(tmp_path):
    """A function that gives a model, and the model of its file."""

    def build(config, with_preprocessing: bool) -> tuple:
        checkpoint = save_weights(config, tmp_path / 'weights.pth')
        path = export(config, checkpoint, tmp_path / 'a.onnx', FORM, False, with_preprocessing)
        return init_model(config, checkpoint, 'cpu'), init_model(config, path)

    return build


@pytest.mark.parametrize('with_preprocessing', [False, True])
def test_labels(with_preprocessing, both):
    model, exported = both(SEGMENTATION, with_preprocessing)
    assert exported.dataset_meta['classes'] == list(model.dataset_meta['classes'])
    given = images((2, 75, 131))
    for truth, found in zip(inference(model, given), inference(exported, given)):
        assert found.pred_sem_seg.data.shape == (1, 75, 131)
        wrong = found.pred_sem_seg.data != truth.pred_sem_seg.data
        assert wrong.float().mean() < 1e-3


def test_batches(both):
    _, exported = both(SEGMENTATION, True)
    given = images((3, 75, 131))
    single, batched = (list(Predictor(exported)(given, size)) for size in (1, 3))
    for truth, found in zip(single, batched):
        assert (found.pred_sem_seg.data == truth.pred_sem_seg.data).all()


def test_label_images_are_those_of_the_model(both, tmp_path):
    both(SEGMENTATION, True)
    saved = []
    for name in ('weights.pth', 'a.onnx'):
        inferencer = Inferencer(SEGMENTATION, str(tmp_path / name), 'cpu')
        inferencer(images((1, 75, 131)), tmp_path / name[0], save='label')
        (label,) = (tmp_path / name[0] / 'labels').iterdir()
        saved.append(cv2.imread(str(label), cv2.IMREAD_UNCHANGED))
    assert (saved[0] != saved[1]).mean() < 1e-3


def test_classes(both):
    model, exported = both(CLASSIFICATION, True)
    (image,) = images((1, 50, 70))
    truth, found = inference(model, image), inference(exported, image)
    torch.testing.assert_close(found.pred_score, truth.pred_score, **CLOSE)
    assert found.pred_label == truth.pred_label


def test_evaluation(both, single_shapes, tmp_path):
    both(CLASSIFICATION, True)
    arguments = dict(work_dir=str(tmp_path / 'work'), data_root=str(single_shapes))
    paths = [str(tmp_path / name) for name in ('weights.pth', 'a.onnx')]
    averaging = Config.fromfile(CLASSIFICATION)
    averaging.custom_hooks = [dict(type='EMAHook')]
    truth, found = (
        evaluate(cfg, path, out=path + '.out', **arguments)
        for cfg, path in zip((str(CLASSIFICATION), averaging), paths)
    )
    assert found == truth
    classes = [
        [entry['label'] for entry in json.loads((Path(path + '.out') / 'classes.json').read_text())]
        for path in paths
    ]
    assert classes[0] == classes[1]


def test_evaluation_of_what_fits_not_is_refused(both, shapes, tmp_path):
    both(SEGMENTATION, True)
    path = str(tmp_path / 'a.onnx')
    arguments = dict(work_dir=str(tmp_path / 'work'), data_root=str(shapes))
    with pytest.raises(UserError, match='^--tta: an exported file'):
        evaluate(str(SEGMENTATION), path, tta=True, **arguments)
    meta = 'test_dataloader.dataset.metainfo.'
    fewer = [meta + 'classes=(ground,disk)', meta + 'palette=[(1,2,3),(4,5,6)]']
    with pytest.raises(UserError, match='num_classes=7, but BaseSegDataset .* has 2 classes'):
        evaluate(str(SEGMENTATION), path, options=fewer, **arguments)


def test_other_files_are_refused(tmp_path):
    (tmp_path / 'text.onnx').write_text('text')
    with pytest.raises(UserError, match='^--device cuda: .* runs on the CPU'):
        init_model(SEGMENTATION, tmp_path / 'text.onnx', 'cuda')
    with pytest.raises(UserError, match='text.onnx cannot be read: '):
        init_model(SEGMENTATION, tmp_path / 'text.onnx')
    path = export(DETECTION, None, tmp_path / 'a.onnx', FORM, backbone=True)
    with pytest.raises(UserError, match='a.onnx: no segmentor, classifier or detector'):
        init_model(DETECTION, path)
    with pytest.raises(UserError, match='a.onnx: exported already'):
        export(DETECTION, path, tmp_path / 'b.onnx', FORM)
    with pytest.raises(UserError, match='no strips for weightformer_mm.ExportedModel'):
        path = export(SEGMENTATION, None, tmp_path / 'a.onnx', FORM)
        Inferencer(SEGMENTATION, path, strips=True)
    with pytest.raises(UserError, match='^--half: an exported file'):
        Inferencer(SEGMENTATION, path, half=True)
