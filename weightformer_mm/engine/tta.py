"""Test-time augmentation."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope

from .config import as_list, innermost_dataset, require, type_name

_MASK_PARTS = ('mask_head', 'mask_roi_extractor')
BOXES_ALONE = 'BoxTTAModel'  # model type of an instance segmentor whose masks are thrown away


def use_tta(cfg: Config) -> list[str]:
    """Replace model and test pipeline by the config's ``tta_model`` and ``tta_pipeline``.

    mmdet's ``DetTTAModel`` merges boxes and refuses masks: of an instance segmentor the mask head is left
    out, or the masks are where the head is not apart, and the boxes alone are evaluated.

    Returns:
        Name prefixes of the weights that the model therefore no longer has; empty where nothing was left out.

    Raises:
        UserError: the config has no test-time augmentation.
    """
    require(cfg, ('tta_model', 'tta_pipeline'), '--tta')
    dropped = []
    if type_name(cfg.tta_model) == 'DetTTAModel':
        dropped = _drop_masks(cfg)
    innermost_dataset(cfg.test_dataloader).pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    return dropped


def _drop_masks(cfg: Config) -> list[str]:
    roi_head: Any = cfg.model.get('roi_head') or {}
    dropped = [f'roi_head.{part}.' for part in _MASK_PARTS if roi_head.pop(part, None) is not None]
    for evaluator in as_list(cfg.test_evaluator):
        metrics = as_list(evaluator.get('metric'))
        if 'segm' not in metrics:
            continue
        if not dropped:
            cfg.tta_model.type = _box_tta_model(cfg)
        evaluator.metric = [metric for metric in metrics if metric != 'segm']
    return dropped


def _box_tta_model(cfg: Config) -> type:
    """A ``DetTTAModel`` for models that predict masks with boxes, such as RTMDet-Ins: it drops the masks."""
    init_default_scope(cfg.get('default_scope') or 'mmdet')

    class BoxTTAModel(MODELS.get('mmdet.DetTTAModel')):
        def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
            for samples in data_samples_list:
                for sample in samples:
                    sample.pred_instances.pop('masks', None)
            return super().merge_preds(data_samples_list)

    return BoxTTAModel
