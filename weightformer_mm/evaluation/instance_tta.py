"""Test-time augmentation of detectors, with masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

# the dimensions of a mask that a flip turns around
_FLIPPED = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}

_TURNED = 'flip_hidden_from_detector'  # name of a view's flip while its detector runs


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Merge the instances that a detector finds in several views of an image: their boxes, by NMS, and masks.

    Boxes are merged as by mmdet's ``DetTTAModel``, which refuses masks; a mask goes the way of its box.

    Args:
        tta_cfg: ``nms``, as ``mmcv.ops.batched_nms`` takes it, and ``max_per_img``.
        options: arguments of mmengine's ``BaseTTAModel``.
    """

    def __init__(self, tta_cfg: dict, **options: Any) -> None:
        super().__init__(**options)
        self.tta_cfg = tta_cfg

    def test_step(self, data: dict) -> list[Any]:
        """Predict on all views of a batch and merge; arguments and result as of ``BaseTTAModel``.

        The detector is not told of flips: mmdet's cascades would turn their masks back alone, and fail.
        """
        for view in data['data_samples']:
            for sample in view:
                flip = (
                    sample.metainfo.get('flip_direction') if sample.metainfo.get('flip') else None
                )
                sample.set_metainfo({'flip': False, _TURNED: flip})
        return super().test_step(data)

    def merge_preds(self, data_samples_list: Sequence[Sequence[Any]]) -> list[Any]:
        """Merge predictions.

        Args:
            data_samples_list: for each image its views' samples, whose ``pred_instances`` have ``bboxes``
                ``(N, 4)``, ``scores`` and ``labels`` ``(N,)`` and may have ``masks`` ``(N, H, W)``, all in
                pixels of the original image, flipped as the view was.

        Returns:
            For each image the sample of its first view with the merged instances.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence[Any]) -> Any:
        from mmcv.ops import batched_nms

        instances = InstanceData.cat([_turned_back(view) for view in views])
        if len(instances) > 0:
            boxes, kept = batched_nms(
                instances.bboxes, instances.scores, instances.labels, self.tta_cfg['nms']
            )
            kept = kept[: self.tta_cfg['max_per_img']]
            instances = instances[kept]
            instances.scores = boxes[: len(kept), -1]  # soft NMS lowers them
        merged = views[0]
        merged.pred_instances = instances
        return merged


def _turned_back(view: Any) -> InstanceData:
    """The instances of a view as they lie in the image that was not flipped."""
    found = view.pred_instances
    instances = InstanceData(bboxes=found.bboxes, scores=found.scores, labels=found.labels)
    if 'masks' in found:
        instances.masks = found.masks
    direction = view.metainfo.get(_TURNED)
    if view.metainfo.get('flip'):
        direction = view.metainfo['flip_direction']
    if direction is None:
        return instances
    dims = _FLIPPED[direction]
    height, width = view.metainfo['ori_shape'][:2]
    x0, y0, x1, y1 = instances.bboxes.unbind(-1)
    if -1 in dims:
        x0, x1 = width - x1, width - x0
    if -2 in dims:
        y0, y1 = height - y1, height - y0
    instances.bboxes = torch.stack((x0, y0, x1, y1), dim=-1)
    if 'masks' in instances:
        instances.masks = instances.masks.flip(dims)
    return instances
