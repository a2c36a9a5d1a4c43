"""Test-time augmentation."""

from __future__ import annotations

from mmengine.config import Config, ConfigDict

from ..config.read import innermost_datasets, require, type_name
from . import instance_tta  # noqa: F401


def use_tta(cfg: Config) -> None:
    """Replace model and test pipelines by the config's ``tta_model`` and ``tta_pipeline``.

    mmdet's ``DetTTAModel``, which refuses masks, is replaced by ``InstanceTTAModel``, which merges them too.

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
