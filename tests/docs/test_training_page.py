"""What docs/training.md says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

import weightformer_mm  # noqa: F401  registers the constructor and the backbones
from tests.helpers import pages

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / 'docs/training.md').read_text()


def test_every_variable_it_names_is_read():
    scripts = ''.join(path.read_text() for path in (ROOT / 'tools/launchers').glob('*.sh'))
    named = set(re.findall(r'\b([A-Z_]+)=', TEXT)) - {'CONFIG', 'WORK_DIR', 'CUDA_VISIBLE_DEVICES'}
    assert {'NNODES', 'RDZV_ENDPOINT', 'GPUS', 'SRUN_ARGS'} <= named
    assert {name for name in named if not re.search(rf'\${{?{name}\b', scripts)} == set()


@pytest.mark.parametrize(
    ('backbone', 'blocks'),
    [('WeightFormer-tiny', 17), ('PyramidWeightFormer-tiny', 24), ('PyramidWeightFormer-base', 30)],
)
def test_its_rates_of_the_stem(backbone, blocks):
    (block,) = pages.blocks('docs/training.md')
    cfg = Config.fromstring(block, '.py').optim_wrapper
    del cfg.optimizer['_delete_']
    kind, arch = backbone.split('-')
    with DefaultScope.overwrite_default_scope('mmengine'):
        model = MODELS.build(dict(type=kind, arch=arch))
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    stem = groups[-1]['lr'] / cfg.optimizer.lr
    assert stem == pytest.approx(cfg.paramwise_cfg.layer_decay_rate ** (blocks + 1))
    assert re.search(rf'\b{stem:.2g}\b', TEXT) and f'({blocks}' in TEXT
