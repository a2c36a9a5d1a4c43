from __future__ import annotations

import pytest
from mmengine.config import Config

from weightformer_mm.config.options import apply_options
from weightformer_mm.errors import UserError


def config() -> Config:
    root = 'data/shapes/'
    return Config(
        {
            'data_root': root,
            'unused': 3,
            'model': {'type': 'MaskRCNN', 'backbone': {'type': 'X', 'arch': 'micro'}},
            'env_cfg': {'cudnn_benchmark': False},
            'train_dataloader': {'dataset': {'data_root': root, 'pipeline': [{'type': 'Load'}]}},
            'test_evaluator': [{'type': 'CocoMetric', 'metric': ['bbox']}],
        }
    )


@pytest.mark.parametrize(
    ('option', 'place', 'value'),
    [
        ('model.backbone.arch=tiny', 'model.backbone.arch', 'tiny'),
        ('model.backbone.with_cp=True', 'model.backbone.with_cp', True),
        ('env_cfg.dist_cfg.backend=gloo', 'env_cfg.dist_cfg.backend', 'gloo'),
        ('randomness.seed=3', 'randomness.seed', 3),
        ('load_from=a=b.pth', 'load_from', 'a=b.pth'),
        (
            'train_dataloader.dataset.pipeline.0.type=Other',
            'train_dataloader.dataset.pipeline',
            None,
        ),
        ('test_evaluator.0.metric=[bbox,segm]', 'test_evaluator', None),
        ('unused=4', 'unused', 4),
    ],
)
def test_option_is_applied(option, place, value):
    cfg = config()
    apply_options(cfg, [option])
    node = cfg
    for part in place.split('.'):
        node = node[part]
    if value is not None:
        assert node == value
    elif 'pipeline' in place:
        assert node[0].type == 'Other'
    else:
        assert node[0].metric == ['bbox', 'segm']


def test_an_index_after_the_last_appends_to_a_list():
    cfg = config()
    apply_options(cfg, ['test_evaluator.1.type=DumpResults', 'test_evaluator.1.out.path=a.json'])
    added = {'type': 'DumpResults', 'out': {'path': 'a.json'}}
    assert cfg.to_dict()['test_evaluator'] == [*config().to_dict()['test_evaluator'], added]
    with pytest.raises(UserError, match='Index 3 exceeds'):
        apply_options(cfg, ['test_evaluator.3.type=DumpResults'])


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model', 'expected KEY=VALUE'),
        ('=3', 'expected KEY=VALUE'),
        ('modle.type=A', 'no such key; did you mean model?'),
        ('qwertz=1', 'no such key$'),
        ('model.bakbone.arch=tiny', 'no bakbone in model; did you mean backbone?'),
        ('data_root=other/', 'set train_dataloader.dataset.data_root$'),
        ('model.backbone.arch.depth=3', 'arch'),
    ],
)
def test_wrong_option_is_refused(option, message):
    cfg = config()
    with pytest.raises(UserError, match=message):
        apply_options(cfg, [option])
    assert cfg.to_dict() == config().to_dict()
