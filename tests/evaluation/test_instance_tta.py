"""Merging of instances: as mmdet merges boxes, and with their masks."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import nn

from weightformer_mm.evaluation.tta import InstanceTTAModel

HEIGHT, WIDTH = 24, 36
DIRECTIONS = (None, 'horizontal', 'vertical', 'diagonal')
NMS, SOFT_NMS = dict(type='nms', iou_threshold=0.5), dict(type='soft_nms', iou_threshold=0.5)


class Detector(nn.Module):
    def test_step(self, data):
        raise AssertionError('the tests hand over predictions')


def view(boxes: torch.Tensor, direction: str | None, with_masks: bool) -> DetDataSample:
    """Predictions with these boxes, ``(N, 4)`` integers, in a view; masks fill them."""
    sample = DetDataSample()
    sample.set_metainfo(
        dict(ori_shape=(HEIGHT, WIDTH), flip=direction is not None, flip_direction=direction)
    )
    generator = torch.Generator().manual_seed(DIRECTIONS.index(direction))
    instances = InstanceData(bboxes=boxes.float())
    instances.scores = torch.rand(len(boxes), generator=generator)
    instances.labels = torch.randint(0, 2, (len(boxes),), generator=generator)
    if with_masks:
        instances.masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(instances.masks, boxes.tolist()):
            mask[y0:y1, x0:x1] = True
    sample.pred_instances = instances
    return sample


def views(with_masks: bool, count: int = 8) -> list[DetDataSample]:
    corners = torch.Generator().manual_seed(7)
    made = []
    for direction in DIRECTIONS:
        starts = torch.randint(0, 20, (count, 2), generator=corners)
        sizes = torch.randint(2, 8, (count, 2), generator=corners)
        boxes = torch.cat((starts, starts + sizes), dim=1)
        boxes[:, 3].clamp_(max=HEIGHT)
        boxes[:, 1] = torch.minimum(boxes[:, 1], boxes[:, 3] - 1)
        made.append(view(boxes, direction, with_masks))
    return made


def merged(model_class: type, nms: dict, samples: list[DetDataSample], limit: int) -> InstanceData:
    tta_cfg = ConfigDict(nms=nms, max_per_img=limit)
    (sample,) = model_class(tta_cfg=tta_cfg, module=Detector()).merge_preds([samples])
    return sample.pred_instances


@pytest.mark.parametrize('nms', [NMS, SOFT_NMS], ids=lambda nms: nms['type'])
@pytest.mark.parametrize('limit', [5, 100])
def test_boxes_are_merged_as_by_mmdet(nms, limit):
    own = merged(InstanceTTAModel, nms, views(False), limit)
    theirs = merged(DetTTAModel, nms, views(False), limit)
    assert 0 < len(own) <= limit
    assert set(own.keys()) == set(theirs.keys())
    for name, value in theirs.items():
        assert torch.equal(own[name], value), name


def test_overlapping_boxes_of_one_class_become_one():
    samples = [view(torch.tensor([[4, 6, 12, 20]]), None, True) for _ in range(3)]
    for number, sample in enumerate(samples):
        sample.pred_instances.scores[:] = 0.1 * (number + 1)
    found = merged(InstanceTTAModel, NMS, samples, 100)
    assert found.scores.tolist() == pytest.approx([0.3])


def test_a_mask_goes_with_its_box():
    found = merged(InstanceTTAModel, NMS, views(True), 100)
    assert len(found) > 8  # more than one view has
    assert found.masks.shape == (len(found), HEIGHT, WIDTH)
    for mask, box in zip(found.masks, found.bboxes.tolist()):
        y, x = mask.nonzero(as_tuple=True)
        assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == box


def test_nothing_found():
    found = merged(InstanceTTAModel, NMS, views(True, count=0), 100)
    assert len(found) == 0 and found.masks.shape == (0, HEIGHT, WIDTH)
