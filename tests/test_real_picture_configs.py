"""What holds for the recipes of CamVid and of cell nuclei alone; that each trains is tested elsewhere."""

from __future__ import annotations

import json
import math
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope
from pycocotools import mask as coco_mask

from projects.model_zoo.metafile import costs_in, read
from tests.helpers.real_layouts import VOID, make_camvid, make_nuclei
from weightformer_mm.config.options import use_data_root

CONFIGS = Path(__file__).parent.parent / 'configs'
FILES = sorted([*CONFIGS.glob('camvid/*.py'), *CONFIGS.glob('nuclei/*.py')])
CAMVID = [path for path in FILES if path.parent.name == 'camvid']
NUCLEI = [path for path in FILES if path.parent.name == 'nuclei']
IMAGES_OF = {'camvid': 367, 'nuclei': 603}
NAME = re.compile(
    r'_pyramid-weightformer-(\w+?)_(?:fpn_)?(\d+)xb(\d+)-(\d+)e_(\w+)-(\d+)x(\d+)$', re.ASCII
)


def each(files):
    return pytest.mark.parametrize('path', files, ids=lambda path: path.stem)


def build_training_set(cfg: Config):
    import_module(f'{cfg.default_scope}.datasets')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return DATASETS.build(cfg.train_dataloader.dataset)


@each(FILES)
def test_name_comment_and_numbers_agree(path):
    cfg = Config.fromfile(path)
    arch, gpus, images, epochs, data, height, width = NAME.search(path.stem).groups()
    batch, crop = int(gpus) * int(images), (int(height), int(width))
    assert data == path.parent.name
    assert cfg.model.backbone.arch == arch
    assert cfg.train_cfg.max_epochs == int(epochs)
    assert cfg.train_dataloader.batch_size == int(images)
    assert cfg.auto_scale_lr.base_batch_size == batch
    crops = {
        tuple(step.crop_size)
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'RandomCrop'
    }
    assert crops == {crop}
    iterations = int(epochs) * math.ceil(IMAGES_OF[data] / batch)
    stated = f'{epochs} epochs * {IMAGES_OF[data]} images / batch {batch} = {iterations} iterations'
    assert stated in path.read_text()


@each(CAMVID)
def test_void_counts_nowhere(path):
    cfg = Config.fromfile(path)
    assert len(cfg.metainfo.classes) == len(set(map(tuple, cfg.metainfo.palette))) == VOID
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.ignore_index == VOID
    heads = [cfg.model[name] for name in ('decode_head', 'auxiliary_head') if name in cfg.model]
    readers = [*heads, cfg.val_evaluator, cfg.test_evaluator]
    assert [reader.ignore_index for reader in readers] == [VOID] * len(readers)
    assert cfg.model.data_preprocessor.seg_pad_val == VOID
    (crop,) = (step for step in cfg.train_pipeline if step.type == 'RandomCrop')
    assert crop.ignore_index == VOID


def test_micro_is_small_enough_for_a_cpu():
    """As the metafile states it, which another test counts."""
    costs = costs_in(read(CONFIGS / 'camvid/metafile.yml'))
    micro = [cost.multiply_adds for name, cost in costs.items() if '-micro_' in name]
    assert len(micro) == 2 and max(micro) < 3e9


@each(CAMVID)
def test_averaged_weights_are_evaluated(path):
    assert Config.fromfile(path).default_hooks.ema.type == 'EMAHook'


def test_camvid_is_read_from_its_folders(tmp_path):
    make_camvid(tmp_path / 'camvid', train=3, val=2, size=(48, 64))
    cfg = Config.fromfile(CAMVID[0])
    use_data_root(cfg, tmp_path / 'camvid')
    data = build_training_set(cfg)
    assert len(data) == 3
    labels = torch.cat([item['data_samples'].gt_sem_seg.data.unique() for item in data])
    assert VOID in labels and labels.max() == VOID


@each(NUCLEI)
def test_there_is_room_for_the_most_crowded_picture(path):
    cfg = Config.fromfile(path)
    most = cfg.val_evaluator.proposal_nums[-1]
    assert most >= 375
    assert cfg.model.test_cfg.rcnn.max_per_img == cfg.tta_model.tta_cfg.max_per_img == most
    assert cfg.model.test_cfg.rpn.max_per_img >= 2 * most
    assert cfg.model.test_cfg.rpn.nms_pre >= cfg.model.test_cfg.rpn.max_per_img
    anchors = cfg.model.rpn_head.anchor_generator
    assert [scale * anchors.strides[0] for scale in anchors.scales] == [8]


def test_masks_beyond_the_hundredth_are_evaluated(tmp_path):
    """Of 150 masks that are all found, COCO's mAP sees 100."""
    mask = np.zeros((256, 256), np.uint8, order='F')
    entries, codes = [], []
    for number in range(150):
        y, x = 16 * (number // 16), 16 * (number % 16)
        mask[:] = 0
        mask[y : y + 12, x : x + 12] = 1
        code = coco_mask.encode(mask)
        codes.append({**code, 'counts': code['counts'].decode()})
        entries.append(
            dict(id=number + 1, image_id=1, category_id=1, iscrowd=0, area=144)
            | dict(bbox=[x, y, 12, 12], segmentation=codes[-1])
        )
    content = dict(
        images=[dict(id=1, file_name='a.png', width=256, height=256)],
        annotations=entries,
        categories=[dict(id=1, name='nucleus')],
    )
    (tmp_path / 'val.json').write_text(json.dumps(content))
    cfg = Config.fromfile(NUCLEI[0])
    import_module('mmdet.evaluation')
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = METRICS.build({**cfg.val_evaluator, 'ann_file': str(tmp_path / 'val.json')})
    metric.dataset_meta = dict(classes=cfg.metainfo.classes)
    boxes = torch.tensor([entry['bbox'] for entry in entries], dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    found = dict(bboxes=boxes, scores=torch.linspace(1, 0.5, 150), labels=torch.zeros(150).long())
    sample = dict(img_id=1, ori_shape=(256, 256), pred_instances={**found, 'masks': codes})
    metric.process({}, [sample])
    values = metric.evaluate(1)
    assert values['coco/nucleus_precision'] == values['coco/segm_mAP_50'] == 1.0
    assert values['coco/segm_mAP'] < 0.7


def test_boxes_enclose_their_masks_after_training_augmentation(tmp_path):
    """Flipped, turned by 90 degrees, resized and cropped."""
    make_nuclei(tmp_path / 'nuclei', train=6, val=1, size=(200, 300))
    cfg = Config.fromfile(NUCLEI[0])
    use_data_root(cfg, tmp_path / 'nuclei')
    (turn,) = (step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'Rotate')
    turn.prob = 1.0
    data = build_training_set(cfg)
    assert len(data) == 6
    for item in data:
        sample = item['data_samples']
        assert item['inputs'].shape == (3, 256, 256)
        boxes, masks = sample.gt_instances.bboxes, sample.gt_instances.masks
        assert len(boxes) and torch.equal(boxes.tensor, masks.get_bboxes('hbox').tensor)
