from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from weightformer_mm.engine.config import type_name
from weightformer_mm.engine.tta import BOXES_ALONE, use_tta

COCO = Path(__file__).parents[2] / 'configs/coco'


class Detector(BaseModel):
    def forward(self, *args, **kwargs):
        raise AssertionError('the predictions are given')


@pytest.fixture
def rtmdet() -> Config:
    return Config.fromfile(COCO / 'rtmdet-ins_pyramid-weightformer-tiny_8xb16-100e_coco.py')


def views(width: int) -> list:
    """Predictions on an image and on its mirror image: one object, with its mask."""
    structures = import_module('mmdet.structures')
    samples = []
    for flip, box in ((False, (2, 2, 8, 8)), (True, (width - 8, 2, width - 2, 8))):
        sample = structures.DetDataSample(
            metainfo=dict(ori_shape=(16, width), flip=flip, flip_direction='horizontal')
        )
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([box], dtype=torch.float32),
            scores=torch.tensor([0.8 - 0.1 * flip]),
            labels=torch.tensor([3]),
            masks=torch.ones(1, 16, width, dtype=torch.bool),
        )
        samples.append(sample)
    return samples


def test_boxes_are_merged_where_a_head_predicts_masks_with_them(rtmdet):
    head = rtmdet.model.bbox_head.copy()
    assert use_tta(rtmdet) == []
    assert type_name(rtmdet.model) == BOXES_ALONE
    assert rtmdet.model.module.bbox_head == head
    assert rtmdet.test_evaluator.metric == ['bbox']
    model = rtmdet.model.type(tta_cfg=rtmdet.model.tta_cfg, module=Detector())
    (merged,) = model.merge_preds([views(32)])
    assert 'masks' not in merged.pred_instances
    assert merged.pred_instances.bboxes.tolist() == [[2, 2, 8, 8]]
    assert merged.pred_instances.labels.tolist() == [3]


@pytest.mark.parametrize('name', ['mask-rcnn', 'cascade-mask-rcnn'])
def test_a_mask_head_of_its_own_is_left_out(name):
    path = COCO / f'{name}_pyramid-weightformer-tiny_fpn_ms-crop-3x_coco.py'
    cfg = Config.fromfile(path)
    assert use_tta(cfg) == ['roi_head.mask_head.', 'roi_head.mask_roi_extractor.']
    assert type_name(cfg.model) == 'DetTTAModel'
    assert not {'mask_head', 'mask_roi_extractor'} & set(cfg.model.module.roi_head)
    assert cfg.test_evaluator.metric == ['bbox']
