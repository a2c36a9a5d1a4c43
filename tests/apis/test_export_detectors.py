"""A file of a detector finds what the detector finds in images of sizes that were not traced."""

from __future__ import annotations

import inspect
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.helpers.commands import ROOT
from tests.helpers.exported import images, preprocessed, run, save_weights
from weightformer_mm.apis import Inferencer, inference, init_model
from weightformer_mm.apis.export import Form, export
from weightformer_mm.config.read import load_config

pytest.importorskip('onnxruntime', reason='needs onnxruntime')
pytest.importorskip('onnx', reason='needs onnx')

FORM = Form(size=(96, 64))
BACKBONE = dict(
    **dict(type='PyramidWeightFormer', arch=dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1))),
    out_indices=(1, 2, 3),
)
HEAD = dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1)
COUNTS = dict(nms_pre=60, max_per_img=20, score_thr=0.0)
CLOSE = dict(rtol=1e-3, atol=1e-3)
SHIPPED = 'mask-rcnn_pyramid-weightformer-micro_fpn_shapes'


def single_stage(name: str) -> Config:
    """A recipe, small; with other heads of mmdet in its place."""
    recipe = 'rtmdet' if name.startswith('rtmdet') else 'retinanet'
    cfg = Config.fromfile(next(ROOT.glob(f'configs/coco/{recipe}*.py')))
    model = cfg.model
    model.backbone = BACKBONE
    model.neck.update(in_channels=[16, 24, 32], out_channels=16)
    model.test_cfg.update(COUNTS)
    if name == 'fcos':
        model.bbox_head = dict(
            **dict(HEAD, norm_cfg=None, type='FCOSHead'), strides=[8, 16, 32, 64, 128]
        )
        model.train_cfg = None
        return cfg
    model.bbox_head.update(HEAD)
    if name.startswith('rtmdet'):
        for part in (model.neck, model.bbox_head):
            part.norm_cfg = dict(type='GN', num_groups=4)
        model.neck.num_csp_blocks = 1
    if name == 'rtmdet':
        model.bbox_head.type = 'RTMDetSepBNHead'
        del model.bbox_head.loss_mask
    return cfg


def detected(model, given: list[np.ndarray]) -> list:
    """What mmdet's own functions find, in pixels of the images."""
    from mmdet.structures import DetDataSample

    size = given[0].shape[:2]
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    samples = [DetDataSample(metainfo=meta) for _ in given]
    with torch.no_grad():
        found = model.predict(preprocessed(model, given), samples, rescale=True)
    return [sample.pred_instances for sample in found]


def check(outputs, expected) -> None:
    """Each box of mmdet has a partner, and there are no others."""
    pairs = total = 0
    for boxes, scores, labels, *_, truth in zip(*outputs, expected):
        found = scores > 0
        assert int(found.sum()) == len(truth.scores)
        assert (scores[:-1] >= scores[1:]).all() and (labels[~found] == -1).all()
        far = (boxes[found, None] - truth.bboxes[None]).abs().amax(-1)
        near = (far < 0.01) & ((scores[found, None] - truth.scores[None]).abs() < 1e-4)
        near &= labels[found, None] == truth.labels[None]
        pairs += int(near.any(1).sum())
        total += len(truth.scores)
    assert total and pairs == total


@pytest.mark.parametrize('with_preprocessing', [False, True])
@pytest.mark.parametrize('name', ['retinanet', 'rtmdet', 'fcos'])
def test_single_stage_detectors(name, with_preprocessing, tmp_path):
    cfg = single_stage(name)
    checkpoint = save_weights(cfg, tmp_path / 'weights.pth', std=0.1)
    path = export(cfg, checkpoint, tmp_path / 'a.onnx', FORM, False, with_preprocessing)
    model = init_model(cfg, checkpoint, 'cpu')
    given = images((3, 75, 131)) if with_preprocessing else images((3, 96, 160))
    image = np.stack(given) if with_preprocessing else preprocessed(model, given)
    check(run(path, image), detected(model, given))


def test_masks_of_predicted_networks(tmp_path):
    """RTMDet-Ins, whose masks are those of the whole image; the pipeline makes it smaller."""
    cfg = single_stage('rtmdet-ins')
    checkpoint = save_weights(cfg, tmp_path / 'weights.pth', std=0.1)
    path = export(cfg, checkpoint, tmp_path / 'a.onnx', FORM, with_preprocessing=True)
    model = init_model(cfg, checkpoint, 'cpu')
    given = images((2, 75, 131))
    outputs, truths = run(path, np.stack(given)), detected(model, given)
    check(outputs, truths)
    for boxes, scores, masks, truth in zip(*(outputs[i] for i in (0, 1, 3)), truths):
        masks = masks[scores > 0] > 0.5
        partner = (boxes[scores > 0, None] - truth.bboxes).abs().amax(-1).argmin(1)
        assert masks.any() and not masks.all()
        assert (masks != truth.masks[partner]).float().mean() < 1e-3
    files = [init_model(cfg, file, 'cpu') for file in (checkpoint, path)]
    truth, found = (inference(each, given[0]).pred_instances for each in files)
    torch.testing.assert_close(found.bboxes, truth.bboxes, **CLOSE)
    assert found.masks.shape == truth.masks.shape == (len(truth.scores), 75, 131)
    assert (found.masks != truth.masks).float().mean() < 1e-2


def shipped() -> Config:
    """Whose small boxes, in small images, belong to several levels."""
    cfg = load_config(SHIPPED)
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        cfg.model.roi_head[name].finest_scale = 12
    return cfg


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp('trained') / 'a.onnx'
    return export(shipped(), SHIPPED, path, FORM, with_preprocessing=True)


def test_a_trained_mask_rcnn(trained, shapes):
    model = init_model(shipped(), SHIPPED, 'cpu')
    given = [cv2.imread(str(path)) for path in sorted((shapes / 'images/val').iterdir())]
    given = [image[:90, :77] for image in given]
    outputs = run(trained, np.stack(given))
    truths = detected(model, given)
    check(outputs, truths)
    for boxes, masks, truth in zip(outputs[0], outputs[3], truths):
        for box, mask, other in zip(boxes, masks, truth.masks):
            assert_same_mask(box, mask, other)


@pytest.mark.skipif(
    'check_guards' not in inspect.signature(torch.export.ExportedProgram.module).parameters,
    reason='needs torch 2.9',
)
def test_a_trained_mask_rcnn_of_torch_export(trained, shapes, tmp_path):
    form = Form('torch-export', (96, 64))
    path = export(shipped(), SHIPPED, tmp_path / 'a.pt2', form, with_preprocessing=True)
    given = [cv2.imread(str(path)) for path in sorted((shapes / 'images/val').iterdir())]
    given = np.stack([image[:90, :77] for image in given])
    program = torch.export.load(str(path)).module(check_guards=False)
    for found, expected in zip(program(torch.from_numpy(given)), run(trained, given)):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def assert_same_mask(box, mask, truth) -> None:
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    whole, _ = _do_paste_mask(mask[None, None], box[None], *truth.shape, skip_empty=False)
    assert ((whole[0] >= 0.5) != truth).float().mean() < 1e-3


def test_a_file_in_the_place_of_the_checkpoint(trained, shapes, tmp_path):
    """The pipeline enlarges the image; boxes and masks have the size of the image."""
    options = ['test_dataloader.dataset.pipeline.1.scale_factor=1.5']
    model, exported = (init_model(shipped(), file, 'cpu', options) for file in (SHIPPED, trained))
    picture = next((shapes / 'images/val').iterdir())
    image = cv2.imread(str(picture))[:80]
    truth, found = (inference(each, image).pred_instances for each in (model, exported))
    assert len(truth.scores)
    for name in ('bboxes', 'scores', 'labels'):
        torch.testing.assert_close(found[name], truth[name], **CLOSE)
    assert found.masks.shape == truth.masks.shape == (len(truth.scores), 80, 96)
    assert (found.masks != truth.masks).float().mean() < 1e-3
    written = Inferencer(shipped(), trained)(picture, tmp_path / 'out')
    assert (tmp_path / 'out' / picture.name).exists()
    assert json.loads((tmp_path / 'out/predictions.json').read_text()) == written


def test_nothing_found_is_no_error(tmp_path):
    cfg = single_stage('retinanet')
    cfg.model.test_cfg.score_thr = 1.0
    checkpoint = save_weights(cfg, tmp_path / 'weights.pth', std=0.1)
    path = export(cfg, checkpoint, tmp_path / 'a.onnx', FORM)
    boxes, scores, labels = run(path, torch.zeros(2, 3, 64, 96))
    assert boxes.shape == (2, 20, 4) and not boxes.any() and not scores.any()
    assert (labels == -1).all()
