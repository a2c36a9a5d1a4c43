"""The examples of docs/custom_data.md, run as they stand on data in the layout that the page shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import MODELS, init_default_scope

from tests.helpers.commands import Tools
from weightformer_mm.config.read import load_config
from weightformer_mm.datasets.checks.classes import check_classes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/custom_data.md').read_text()
CONFIGS = dict(re.findall(r'```python\n# projects/(\w+)\.py\n(.*?)```', PAGE, re.S))
CHANNELS = [32, 64, 128, 192]
FAST = {
    'model.backbone.arch': 'micro',
    'train_dataloader.batch_size': 2,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
}
PARTS = {
    'model.neck.in_channels': CHANNELS,
    'model.roi_head.bbox_head.fc_out_channels': 32,
    'model.roi_head.mask_head.conv_out_channels': 32,
    'model.train_cfg.rpn_proposal.max_per_img': 20,
    'model.test_cfg.rpn.max_per_img': 20,
    'model.test_cfg.rcnn.max_per_img': 5,
    'train_cfg.max_epochs': 1,
    'train_dataloader.dataset.pipeline.2.scale': '(160,96)',
    'val_dataloader.dataset.pipeline.1.scale': '(160,96)',
    'test_dataloader.dataset.pipeline.1.scale': '(160,96)',
}
AERIAL = {
    'model.decode_head.in_channels': CHANNELS,
    'model.auxiliary_head.in_channels': 128,
    'model.decode_head.channels': 32,
    'model.data_preprocessor.size': '(64,64)',
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    'default_hooks.checkpoint.interval': 1,
    'train_dataloader.dataset.pipeline.2.scale': '(256,64)',
    'train_dataloader.dataset.pipeline.3.crop_size': '(64,64)',
    'val_dataloader.dataset.pipeline.1.scale': '(256,64)',
    'test_dataloader.dataset.pipeline.1.scale': '(256,64)',
}


def picture(path: Path, value: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), value)


def make_parts(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        content = {'images': [], 'annotations': [], 'categories': []}
        for index, name in enumerate(('bolt', 'nut', 'washer')):
            content['categories'].append({'id': 7 + index, 'name': name})
        for index in range(count):
            image = rng.integers(0, 80, (96, 160, 3), np.uint8)
            x, y, w, h = 20 + 10 * index, 30, 50, 40
            image[y : y + h, x : x + w] = 220
            picture(root / split / f'{index}.jpg', image)
            entry = {'id': index, 'file_name': f'{index}.jpg', 'width': 160, 'height': 96}
            content['images'].append(entry)
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            content['annotations'].append(
                {
                    'id': 100 + index,
                    'image_id': index,
                    'category_id': 7 + index % 3,
                    'bbox': [x, y, w, h],
                    'area': w * h,
                    'iscrowd': 0,
                    'segmentation': [outline],
                }
            )
        (root / f'{split}.json').write_text(json.dumps(content))


def make_aerial(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (('training', 4), ('validation', 2)):
        for index in range(count):
            labels = np.kron(rng.integers(0, 4, (2, 3)), np.ones((48, 48))).astype(np.uint8)
            picture(
                root / f'images/{split}/{index}.jpg',
                cv2.merge([labels * 60 + 20] * 3),
            )
            labels[:8] = 255
            picture(root / f'annotations/{split}/{index}.png', labels)


CASES = {
    'parts': (make_parts, PARTS, 'epoch_1.pth', 'coco/segm_mAP'),
    'aerial': (make_aerial, AERIAL, 'iter_1.pth', 'mIoU'),
}


def test_every_example_is_run():
    assert set(CONFIGS) == {*CASES, 'streets'}


@pytest.fixture(scope='module')
def tools(tmp_path_factory):
    tools = Tools(tmp_path_factory.mktemp('custom'))
    (tools.folder / 'projects').mkdir()
    (tools.folder / 'configs').symlink_to(ROOT / 'configs')
    return tools


def test_the_heads_of_the_panoptic_example_fit_its_classes(tools):
    """Its recipe trains in the test of all recipes."""
    path = tools.folder / 'projects/streets.py'
    path.write_text(CONFIGS['streets'])
    cfg = load_config(path)
    init_default_scope('mmdet')
    assert len(cfg.test_dataloader.dataset.metainfo.classes) == 5
    check_classes(cfg, MODELS.build(cfg.model), ('train', 'val', 'test'))


def test_no_recipe_has_the_variables_of_the_examples():
    """mmengine merges two dicts of one name, and refuses one in the place of a base config's tuple."""
    recipes = {path.name: load_config(path) for path in sorted((ROOT / 'configs').glob('*/*.py'))}
    for text in CONFIGS.values():
        based_on = recipes[re.search(r"_base_ = '.*/(.*)'", text)[1]]
        own = set(re.findall(r'^(\w+) =', text, re.M)) - {'_base_', 'metainfo', *based_on}
        assert 'own' in own
        for name, recipe in recipes.items():
            assert not own & recipe.keys(), name


@pytest.mark.parametrize('name', CASES)
def test_the_example_is_checked_drawn_trained_and_evaluated(name, tools):
    make, changes, checkpoint, metric = CASES[name]
    make(tools.folder / 'data' / name)
    config = Path('projects', f'{name}.py')
    (tools.folder / config).write_text(CONFIGS[name])
    options = [f'{key}={value}'.replace(' ', '') for key, value in {**FAST, **changes}.items()]
    options = ['--cfg-options', *options]

    assert 'summary: no errors, no warnings' in tools.run('check_dataset', config, '--all').ok()
    tools.run('browse', config, '--out', f'{name}.png', '--num', 2, *options).ok()
    assert cv2.imread(str(tools.folder / f'{name}.png')) is not None
    tools.run('train', config, *options).ok()
    weights = Path('work_dirs', name, checkpoint)
    tools.run('test', config, weights, '--out', f'{name}_results', *options).ok()
    metrics = json.loads((tools.folder / f'{name}_results/metrics.json').read_text())
    assert metrics[metric] is not None
