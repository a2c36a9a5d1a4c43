"""Models, predictions, pictures and JSON from Python, beside the libraries' own functions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from pycocotools import mask as coco_mask

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from weightformer_mm.apis import Inferencer, inference, init_model
from weightformer_mm.errors import UserError
from weightformer_mm.visualization import drawing

CONFIGS = {'detection': DETECTION, 'segmentation': SEGMENTATION, 'classification': CLASSIFICATION}
NAMES = {
    'detection': ('disk', 'ring', 'triangle', 'square', 'star', 'cross'),
    'segmentation': tuple('abcdefg'),
    'classification': tuple('uvwxyz'),
}
# an untrained detector finds nothing above its own threshold
LOW = ['model.test_cfg.rcnn.score_thr=0.0']


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Checkpoints of untrained models, with names and colours of classes."""
    paths = {}
    for task, config in CONFIGS.items():
        torch.manual_seed(0)
        model = init_model(config, device='cpu')
        paths[task] = tmp_path_factory.mktemp('weights') / f'{task}.pth'
        palette = [(40 * index, 0, 99) for index in range(len(NAMES[task]))]
        meta = {'dataset_meta': {'classes': NAMES[task], 'palette': palette}}
        torch.save({'state_dict': model.state_dict(), 'meta': meta}, paths[task])
    return paths


@pytest.fixture(params=CONFIGS)
def task(request) -> str:
    return request.param


@pytest.fixture
def images(tmp_path) -> list:
    """A path and an array, of different sizes."""
    rng = np.random.default_rng(0)
    wide, high = (rng.integers(0, 256, (*size, 3), np.uint8) for size in ((64, 96), (80, 64)))
    cv2.imwrite(str(tmp_path / 'image.png'), wide)
    return [tmp_path / 'image.png', high]


def values(sample) -> torch.Tensor:
    """The numbers of a prediction, in one vector."""
    if 'pred_instances' in sample:
        found = sample.pred_instances
        return torch.cat([found.bboxes.flatten(), found.scores])
    return sample.seg_logits.data.flatten() if 'seg_logits' in sample else sample.pred_score


def options(task: str) -> list[str]:
    return LOW if task == 'detection' else []


def test_a_list_of_sizes_gives_what_each_image_gives(task, checkpoints, images):
    model = init_model(CONFIGS[task], checkpoints[task], 'cpu', options(task))
    assert not model.training and model.dataset_meta['classes'] == NAMES[task]
    together = inference(model, images)
    assert len(together) == 2
    for image, sample in zip(images, together):
        alone = inference(model, image)
        assert type(alone) is type(sample) and values(alone).numel()
        assert torch.equal(values(sample), values(alone))
    as_array = inference(model, cv2.imread(str(images[0])))
    assert torch.equal(values(as_array), values(inference(model, str(images[0]))))
    size = together[1].ori_shape[:2]
    assert tuple(size) == (80, 64)


def test_models_of_several_libraries_live_side_by_side(checkpoints, images):
    models = {task: init_model(CONFIGS[task], checkpoints[task], 'cpu') for task in CONFIGS}
    kinds = {task: type(inference(model, images[0])).__name__ for task, model in models.items()}
    assert list(kinds.values()) == ['DetDataSample', 'SegDataSample', 'DataSample']


def test_pictures_and_json(task, checkpoints, images, tmp_path):
    inferencer = Inferencer(CONFIGS[task], checkpoints[task], 'cpu', options(task))
    found = inferencer(images, tmp_path / 'out', score_thr=0.0)
    assert json.loads((tmp_path / 'out/predictions.json').read_text()) == found
    files = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert files == ['000001.png', 'image.png', 'predictions.json']
    drawn = cv2.imread(str(tmp_path / 'out/image.png'))
    image = cv2.imread(str(images[0]))
    assert (drawn != cv2.resize(image, drawn.shape[1::-1])).any()
    assert [entry['image'] for entry in found] == [str(images[0]), None]
    for entry, sample in zip(found, inference(inferencer.model, images)):
        assert entry['names'] == [NAMES[task][label] for label in entry['labels']]
        masks = [coco_mask.decode(coco_mask.frPyObjects(m, *m['size'])) for m in entry['masks']]
        if task == 'detection':
            assert masks and np.array_equal(masks, sample.pred_instances.masks.numpy())
            assert entry['bboxes'] == sample.pred_instances.bboxes.tolist()
        elif task == 'segmentation':
            labels = sample.pred_sem_seg.data[0].numpy()
            assert sum(entry['pixels']) == labels.size
            expected = [labels == label for label in entry['labels']]
            assert np.array_equal(masks, expected)
        else:
            assert entry['labels'][0] == sample.pred_label.item()
            assert entry['scores'] == sorted(sample.pred_score.tolist(), reverse=True)
    assert inferencer(images) == found


def test_a_huge_picture_has_colours_and_no_names(checkpoints, images, tmp_path, monkeypatch):
    inferencer = Inferencer(SEGMENTATION, checkpoints['segmentation'], 'cpu', strips=True)
    monkeypatch.setattr(drawing, '_MOST_PIXELS', 0)
    inferencer(images[1], tmp_path)
    pixels, sample = images[1][..., ::-1], inference(inferencer.model, images[1])
    options = dict(draw_gt=False, with_labels=False, out_file=str(tmp_path / 'expected.png'))
    inferencer.visualizer.add_datasample('', pixels, sample, **options)
    found, expected = (cv2.imread(str(tmp_path / f'{name}.png')) for name in ('000000', 'expected'))
    assert np.array_equal(found, expected) and (found != images[1]).any()


def test_what_is_no_image(checkpoints, tmp_path):
    model = init_model(SEGMENTATION, checkpoints['segmentation'], 'cpu')
    with pytest.raises(UserError, match=r'\(H, W, 3\) of uint8, not \(8, 8\) of float32'):
        inference(model, np.zeros((8, 8), np.float32))
    with pytest.raises(UserError, match='cannot read the image .*none.png: No such file'):
        inference(model, tmp_path / 'none.png')
    with pytest.raises(UserError, match='no such image or folder'):
        Inferencer(SEGMENTATION, device='cpu')(tmp_path / 'none', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_what_is_read_is_not_replaced(checkpoints, images, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    config = out / 'predictions.json'
    Config.fromfile(SEGMENTATION).dump(str(config))
    checkpoint = tmp_path / 'weights.pth'
    checkpoint.write_bytes(checkpoints['segmentation'].read_bytes())
    before = config.read_bytes(), checkpoint.read_bytes()
    with pytest.raises(UserError, match=r'predictions\.json: this file is read'):
        Inferencer(config, checkpoint, 'cpu')(images[:1], out)
    os.link(checkpoint, out / 'image.png')
    with pytest.raises(UserError, match=r'image\.png: this file is read'):
        Inferencer(SEGMENTATION, checkpoint, 'cpu')(images[:1], out)
    assert (config.read_bytes(), checkpoint.read_bytes()) == before


def test_a_config_changed_in_python(checkpoints, images):
    cfg = Config.fromfile(SEGMENTATION)
    cfg.model.decode_head.num_classes = cfg.model.auxiliary_head.num_classes = 3
    before = cfg.to_dict()
    model = init_model(cfg, device='cpu')
    assert inference(model, images[1]).seg_logits.data.shape == (3, 80, 64)
    assert cfg.to_dict() == before
    with pytest.raises(UserError, match='is a checkpoint of another model'):
        init_model(cfg, checkpoints['segmentation'], 'cpu')
    with pytest.raises(UserError, match=r'config\.py has no test_dataloader'):
        init_model(Config(dict(model=cfg.model)))


def test_the_functions_of_mmdet(checkpoints, images, tmp_path):
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    checkpoint = str(checkpoints['detection'])
    cfg = Config.fromfile(DETECTION)
    cfg.merge_from_dict({'model.test_cfg.rcnn.score_thr': 0.0})
    theirs = init_detector(cfg, checkpoint, device='cpu')
    ours = init_model(DETECTION, checkpoint, 'cpu', LOW)
    samples = [
        function(model, images[1])
        for function in (inference, inference_detector)
        for model in (ours, theirs)
    ]
    assert all(torch.equal(values(sample), values(samples[0])) for sample in samples)
    inferencer = DetInferencer(str(DETECTION), checkpoint, device='cpu', show_progress=False)
    found = inferencer(str(images[0]), out_dir=str(tmp_path / 'out'))['predictions']
    assert found[0].keys() >= {'labels', 'scores', 'bboxes'}
    assert (tmp_path / 'out/vis/image.png').is_file()


def test_the_functions_of_mmseg(checkpoints, images, tmp_path):
    from mmseg.apis import MMSegInferencer, inference_model
    from mmseg.apis import init_model as init_segmentor

    checkpoint = str(checkpoints['segmentation'])
    theirs = init_segmentor(str(SEGMENTATION), checkpoint, device='cpu')
    ours = init_model(SEGMENTATION, checkpoint, 'cpu')
    samples = [
        function(model, images[1])
        for function in (inference, inference_model)
        for model in (ours, theirs)
    ]
    assert all(torch.equal(values(sample), values(samples[0])) for sample in samples)
    inferencer = MMSegInferencer(str(SEGMENTATION), checkpoint, device='cpu')
    found = inferencer(str(images[0]), out_dir=str(tmp_path / 'out'))['predictions']
    assert np.array_equal(found, inference(ours, images[0]).pred_sem_seg.data[0].numpy())
    assert list((tmp_path / 'out/vis').iterdir())


def test_an_auxiliary_head_that_only_trains_is_left_out(checkpoints, images, caplog):
    expected = Inferencer(SEGMENTATION, checkpoints['segmentation'], 'cpu')(images)
    MMLogger.get_current_instance().addHandler(caplog.handler)
    none = ['model.auxiliary_head=None']
    seen = Inferencer(SEGMENTATION, checkpoints['segmentation'], 'cpu', none)
    assert not seen.model.with_auxiliary_head and seen(images) == expected
    said = [one for one in caplog.messages if 'left out the auxiliary head' in one]
    assert len(said) == 1
    with pytest.raises(
        UserError, match='is a checkpoint of another model: .* decode_head.conv_seg'
    ):
        none.append('model.decode_head.num_classes=3')
        init_model(SEGMENTATION, checkpoints['segmentation'], 'cpu', none)
