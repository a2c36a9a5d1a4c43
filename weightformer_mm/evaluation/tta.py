"""Test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from ..config.read import innermost_datasets, require, type_name

# the dimensions of a mask that a flip reverses
_FLIPPED = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}
_HIDDEN_FLIP = 'flip_hidden_from_detector'  # name of a view's flip while its detector runs


def use_tta(cfg: Config) -> None:
    """Replace model and test pipelines with the config's ``tta_model`` and ``tta_pipeline``.

    ``InstanceTTAModel``, which also merges masks, replaces mmdet's ``DetTTAModel``, which refuses them.

    Raises:
        UserError: the config has no test-time augmentation.
    """
    require(cfg, ('tta_model', 'tta_pipeline'), '--tta')
    for _, dataset in innermost_datasets(cfg.test_dataloader.dataset, 'test_dataloader.dataset'):
        dataset.pipeline = cfg.tta_pipeline
    model = ConfigDict(**cfg.tta_model, module=cfg.model)
    if type_name(model) == 'DetTTAModel':
        model.type = 'InstanceTTAModel'
    cfg.model = model


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Merge, by NMS, the boxes and masks that a detector finds in several views of an image.

    Boxes are merged as in mmdet's ``DetTTAModel``, which refuses masks; a mask stays with its box.

    Args:
        tta_cfg: ``nms``, the config for ``mmcv.ops.batched_nms``, and ``max_per_img``.
        options: arguments of mmengine's ``BaseTTAModel``.
    """

    def __init__(self, tta_cfg: dict, **options: Any) -> None:
        super().__init__(**options)
        self.tta_cfg = tta_cfg

    def test_step(self, data: dict) -> list[Any]:
        """Predict on all views of a batch and merge; arguments and result as in ``BaseTTAModel``.

        Flips are hidden from the detector: mmdet's cascades would flip back only their masks, and fail.
        """
        for sample in (sample for view in data['data_samples'] for sample in view):
            flip = sample.metainfo.get('flip_direction') if sample.metainfo.get('flip') else None
            sample.set_metainfo({'flip': False, _HIDDEN_FLIP: flip})
        return super().test_step(data)

    def merge_preds(self, data_samples_list: Sequence[Sequence[Any]]) -> list[Any]:
        """Merge predictions.

        Args:
            data_samples_list: for each image, its views' samples. Their ``pred_instances`` have ``bboxes``
                ``(N, 4)``, ``scores`` and ``labels`` ``(N,)`` and may have ``masks`` ``(N, H, W)``, all in
                pixels of the original image and flipped like the view.

        Returns:
            For each image, the sample of its first view with the merged instances.
        """
        from mmcv.ops import batched_nms

        merged = []
        for views in data_samples_list:
            found = InstanceData.cat([_flipped_back(view) for view in views])
            if len(found) > 0:
                boxes, kept = batched_nms(
                    found.bboxes, found.scores, found.labels, self.tta_cfg['nms']
                )
                kept = kept[: self.tta_cfg['max_per_img']]
                found = found[kept]
                found.scores = boxes[: len(kept), -1]  # soft NMS lowers them
            merged.append(views[0])
            merged[-1].pred_instances = found
        return merged


def _flipped_back(view: Any) -> InstanceData:
    """The instances of a view, as they lie in the unflipped image."""
    from mmdet.structures.bbox import bbox_flip

    found, info = view.pred_instances, view.metainfo
    names = [name for name in ('bboxes', 'scores', 'labels', 'masks') if name in found]
    instances = InstanceData(**{name: found[name] for name in names})
    direction = info['flip_direction'] if info.get('flip') else info.get(_HIDDEN_FLIP)
    if direction is not None:
        instances.bboxes = bbox_flip(instances.bboxes, info['ori_shape'], direction)
        if 'masks' in instances:
            instances.masks = instances.masks.flip(_FLIPPED[direction])
    return instances
