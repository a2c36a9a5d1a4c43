from __future__ import annotations

import random
from collections import Counter

import pytest
from mmengine.config import Config

from tests.helpers.commands import DETECTION, SEGMENTATION
from weightformer_mm.config.options import apply_options
from weightformer_mm.config.read import load_config
from weightformer_mm.errors import UserError
from weightformer_mm.utils.blame import nodes

VARIABLES = ['data_root', 'unused', 'max_epochs', 'metainfo', 'train_pipeline', 'vis_backends']
VARIANTS = 300


def config() -> Config:
    root = 'data/shapes/'
    return Config(
        {
            'data_root': root,
            'unused': 33,
            'max_epochs': 2,
            'metainfo': {'classes': ['a']},
            'train_pipeline': [{'type': 'Load'}],
            'vis_backends': [{'type': 'A'}],
            'model': {
                'type': 'MaskRCNN',
                'backbone': {'type': 'X', 'arch': 'micro'},
                'data_preprocessor': {'type': 'P'},
                'test_cfg': {'mode': 'whole'},
            },
            'env_cfg': {'cudnn_benchmark': False, 'mp_cfg': {'mp_start_method': 'fork'}},
            'train_cfg': {'max_epochs': 5},
            'visualizer': {'type': 'V', 'vis_backends': [{'type': 'A'}]},
            'train_dataloader': {
                'batch_size': 2,
                'dataset': {
                    'data_root': root,
                    'metainfo': {'classes': ['a']},
                    'pipeline': [{'type': 'Load'}],
                },
            },
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
    apply_options(cfg, ['custom_hooks.0.type=EMAHook', 'custom_hooks.0.momentum=0.1'])
    assert cfg.to_dict()['custom_hooks'] == [{'type': 'EMAHook', 'momentum': 0.1}]
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
        ('unused=4', 'unused: a variable that nothing reads any more$'),
        (
            'train_pipeline.0.to_float32=True',
            r'set train_dataloader.dataset.pipeline.0.to_float32$',
        ),
        ('metainfo.classes=(a,b)', 'set train_dataloader.dataset.metainfo.classes$'),
        ('vis_backends.0.type=B', 'set visualizer.vis_backends.0.type$'),
        (
            'max_epochs=3',
            'set train_cfg.max_epochs$',
        ),  # another key overrides it, and other numbers equal it
        ('data_preprocessor.size=3', 'set model.data_preprocessor.size$'),
        ('launcher=slurm', 'has no effect here; set --launcher'),
        ('custom_imports.imports=[a]', 'has no effect here; write it into a config file'),
        ('work_dir=there', 'has no effect here; --work-dir replaces it'),
        ('env_cfg.cudnn_benchmrk=True', 'nothing reads it; env_cfg has cudnn_benchmark, dist_cfg'),
        (
            'env_cfg.mp_cfg.start=fork',
            'nothing reads it; env_cfg.mp_cfg has mp_start_method, opencv',
        ),
        ('model.test_cfg.mod=slide', 'no mod in model.test_cfg; did you mean mode?'),
        (
            'model.backbone.arch={"depth":3}',
            'a dict is set by its keys, as model.backbone.arch.KEY=VALUE',
        ),
        ('model.backbone.arch=[(1,2]', 'Imbalanced'),
        ('model.backbone.arch.depth=3', 'arch'),
    ],
)
def test_wrong_option_is_refused(option, message):
    cfg = config()
    with pytest.raises(UserError, match=message):
        apply_options(cfg, [option], {'work_dir': '--work-dir replaces it'})
    assert cfg.to_dict() == config().to_dict()


@pytest.mark.parametrize(
    ('path', 'key', 'is_read'),
    [
        (DETECTION, 'model.test_cfg.rpn.score_thr', True),
        (DETECTION, 'model.train_cfg.rpn.mask_size', True),  # by a function beside the classes
        (DETECTION, 'model.test_cfg.rcnn.qwertz', False),
        (DETECTION, 'model.train_cfg.rcnn.qwertz', False),
        (SEGMENTATION, 'model.test_cfg.qwertz', False),
        (SEGMENTATION, 'model.train_cfg.qwertz', False),
    ],
)
def test_keys_of_the_configs_that_a_model_reads(path, key, is_read):
    if is_read:
        parent, _, last = key.removeprefix('model.').rpartition('.')
        node = load_config(path, [f'{key}=3']).model
        for name in parent.split('.'):
            node = node[name]
        assert node[last] == 3
    else:
        with pytest.raises(UserError, match=f'{key}: no part of the model reads qwertz$'):
            load_config(path, [f'{key}=3'])


def test_an_option_changes_what_is_built_or_is_refused():
    draw, counts = random.Random(0), Counter()
    built = [key for key in config() if key not in VARIABLES]
    places = [place for place, _ in nodes(config()._cfg_dict, '') if place]
    for _ in range(VARIANTS):
        place = draw.choice([*places, *VARIABLES])
        key = draw.choice([place, f'{place}.new', place[:-1], f'{place}.0', f'{place}.0.type'])
        cfg, value = config(), draw.choice(['7', 'x', '[1,2]', 'None', '(a,b)', 'True'])
        try:
            apply_options(cfg, [f'{key}={value}'])
        except UserError as error:
            assert '--cfg-options' in str(error) and '\n' not in str(error)
            counts['refused'] += 1
            continue
        before, after = ({k: c.to_dict().get(k) for k in {*built, *c}} for c in (config(), cfg))
        for variable in VARIABLES:
            before.pop(variable), after.pop(variable)
        assert before != after, key
        counts['applied'] += 1
    print(dict(counts))
    assert min(counts.values()) > VARIANTS / 5
