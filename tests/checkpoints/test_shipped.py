"""Weights that ship with recipes: small, in float16, found by the recipe's name, and good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.helpers.commands import Tools
from weightformer_mm.apis import Inferencer, init_model
from weightformer_mm.checkpoints.sources import WEIGHTS, load_weights
from weightformer_mm.config.read import RECIPES, find_recipe, load_config
from weightformer_mm.datasets import ShapesConfig, make_shapes

ROOT = Path(__file__).parents[2]
FILES = sorted(RECIPES.glob(f'*/*{WEIGHTS}'))
DETECTOR = 'mask-rcnn_pyramid-weightformer-micro_fpn_shapes'
SEGMENTOR = 'upernet_pyramid-weightformer-micro_shapes'
STREETS = 'upernet_pyramid-weightformer-micro_1xb8-80e_camvid-240x320'
NUCLEI = 'mask-rcnn_pyramid-weightformer-micro_fpn_1xb4-24e_nuclei-256x256'
MOST_BYTES = 8_000_000
PICTURES = ROOT / 'projects/demo/pictures'


def test_there_are_those_of_the_demo_and_of_real_pictures():
    assert {path.stem for path in FILES} == {DETECTOR, SEGMENTOR, STREETS, NUCLEI}


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_they_are_small_and_lie_beside_their_recipe(path):
    assert path.stat().st_size <= MOST_BYTES
    assert path.with_suffix('.py').is_file()
    with safe_open(path, 'pt') as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}
    assert kinds <= {torch.float16, torch.int64}  # batch counters


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_a_name_stands_for_both(path):
    assert Path(load_config(path.stem).filename) == path.with_suffix('.py')
    assert find_recipe(path.stem, WEIGHTS) == path
    stored = load_weights(path.stem)
    weights = init_model(path.stem, device='cpu').state_dict()
    assert weights.keys() == stored.keys()
    assert all(
        torch.equal(weights[name], value.to(weights[name])) for name, value in stored.items()
    )


def test_a_name_without_weights_leaves_them_at_random():
    name = 'pyramid-weightformer-micro_shapes'
    assert find_recipe(name) and find_recipe(name, WEIGHTS) is None
    first, second = (init_model(name, device='cpu').head.fc.weight for _ in range(2))
    assert not torch.equal(first, second)


def test_the_detector_sees_objects_that_ship():
    found = Inferencer(DETECTOR, device='cpu')(PICTURES)
    assert len(found) == 4
    for entry in found:
        sure = [name for name, score in zip(entry['names'], entry['scores']) if score > 0.7]
        assert sure


@pytest.fixture(scope='module')
def unseen(tmp_path_factory):
    """Pictures of another seed than those of the training."""
    folder = tmp_path_factory.mktemp('unseen') / 'shapes'
    make_shapes(folder, ShapesConfig(train=1, val=16, seed=11), progress=False)
    return folder


@pytest.mark.parametrize(
    ('name', 'metric', 'least'), [(DETECTOR, 'coco/bbox_mAP', 0.7), (SEGMENTOR, 'mIoU', 80)]
)
def test_they_are_good_on_pictures_that_were_not_there(name, metric, least, unseen, tmp_path):
    tools = Tools(tmp_path)
    tools.run('test', '--weights', name, '--out', 'out', '--data-root', unseen).ok()
    assert json.loads((tmp_path / 'out/metrics.json').read_text())[metric] > least


def test_weights_and_positions_do_not_mix(tmp_path):
    tools = Tools(tmp_path)
    line = tools.run('infer', '--weights', 'none', PICTURES, '--out', tmp_path / 'out').error_line()
    assert line == 'infer.py: error: config not found: none'
    extra = tools.run('infer', f'--weights={DETECTOR}', 'a.py', 'a.pth', PICTURES, '--out', 'out')
    assert extra.code == 2 and 'unrecognized arguments' in extra.err
