"""The numbers of the metafiles are those of the models."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from projects.model_zoo.make_tables import MEASURED_PEERS
from projects.model_zoo.metafile import Cost, cost_of, costs_in, metafile_path, read
from projects.model_zoo.recipes import FAMILIES, read_recipe
from tests.helpers import needs
from tests.helpers.uninitialised import Uninitialised
from weightformer_mm.apis.complexity import for_counting
from weightformer_mm.config.read import load_config
from weightformer_mm.utils.translate import require_libraries

ROOT = Path(__file__).parents[3]
FILES = [
    # in mmdet 3.3 the reference points of DINO's decoder have half as many inputs
    pytest.param(
        family,
        path,
        id=path.stem,
        marks=[needs.locked('onedl-mmdetection')] if path.stem.startswith('dino') else [],
    )
    for family in FAMILIES
    for path in sorted((ROOT / 'configs' / family.folder).glob('*.py'))
]
# counted in seconds, since they need no values; the others take up to minutes
SMALLEST = {'ade20k': '-tiny_', 'cityscapes': '-tiny_', 'camvid': '-micro_', 'shapes': '-micro_'}
CHEAP = [
    case
    for case in FILES
    if SMALLEST.get(case.values[0].folder, 'none') in case.id
    and not case.id.startswith(('mask2former', 'mask-rcnn'))
]


@cache
def stated(family) -> dict[str, Cost]:
    return costs_in(read(ROOT / metafile_path(family)))


@pytest.mark.parametrize(('family', 'path'), FILES)
def test_parameters(family, path):
    cfg = load_config(path)
    require_libraries(cfg.default_scope)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'), Uninitialised():
        model = MODELS.build(ConfigDict(for_counting(cfg.model.to_dict())))
    parameters = sum(parameter.numel() for parameter in revert_sync_batchnorm(model).parameters())
    assert stated(family)[path.stem].parameters == parameters


@pytest.mark.parametrize(('family', 'path'), CHEAP)
def test_multiply_adds(family, path):
    recipe = read_recipe(path.relative_to(ROOT), ROOT, family)
    assert stated(family)[path.stem] == cost_of(str(path), recipe.shape)


@pytest.mark.parametrize('size', ['tiny', 'small', 'base'])
@pytest.mark.parametrize(
    ('folder', 'recipe'),
    [
        ('coco', 'mask-rcnn_pyramid-weightformer-{}_fpn_1x_coco'),
        ('ade20k', 'upernet_pyramid-weightformer-{}_8xb2-160k_ade20k-512x512'),
    ],
)
def test_no_size_costs_more_than_swin_of_that_size(folder, recipe, size):
    own = costs_in(read(ROOT / f'configs/{folder}/metafile.yml'))
    swin = read(ROOT / MEASURED_PEERS)[folder][f'Swin-{size[0].upper()}']
    assert own[recipe.format(size)].multiply_adds <= swin[1]
