"""What ``--tta`` changes in a config."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from tests.helpers.reduced import FACTORS
from weightformer_mm.config.read import innermost_dataset, innermost_datasets, type_name
from weightformer_mm.errors import UserError
from weightformer_mm.evaluation.tta import use_tta

CONFIGS = Path(__file__).parents[2] / 'configs'
FILES = sorted(path for name in FACTORS for path in CONFIGS.glob(f'{name}/*.py'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_model_and_metrics_stay_and_the_pipeline_changes(path):
    cfg, before = Config.fromfile(path), Config.fromfile(path)
    if 'panoptic_fusion_head' in cfg.model:  # mmdet joins no segments
        with pytest.raises(UserError, match='has no tta_model'):
            use_tta(cfg)
        return
    use_tta(cfg)
    assert type_name(cfg.model) in ('InstanceTTAModel', 'SegTTAModel')
    assert cfg.model.module == before.model
    assert cfg.model.get('tta_cfg') == before.tta_model.get('tta_cfg')
    assert cfg.test_evaluator == before.test_evaluator
    assert innermost_dataset(cfg.test_dataloader).pipeline == before.tta_pipeline


def test_of_several_data_sets_each_has_the_pipeline():
    cfg = Config.fromfile(FILES[0])
    one = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[one, dict(one)])
    use_tta(cfg)
    found = list(innermost_datasets(cfg.test_dataloader.dataset, ''))
    assert [dataset.pipeline for _, dataset in found] == [cfg.tta_pipeline] * 2
