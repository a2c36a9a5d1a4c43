"""What the COCO recipes state: their arithmetic, their schedules, and what is read."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS

import weightformer_mm  # noqa: F401  registers the backbones

COCO = Path(__file__).parents[1] / 'configs/coco'
FILES = sorted(COCO.glob('*.py'))
SIZES = ('tiny', 'small', 'base')
IMAGES, WITH_OBJECTS = 118_287, 117_266  # of train2017
ARITHMETIC = re.compile(r'# (\d+) epochs \* (\d+) images / batch (\d+) = (\d+) iterations$', re.M)


@pytest.fixture(scope='module', params=FILES, ids=lambda path: path.stem)
def recipe(request) -> Config:
    return Config.fromfile(request.param)


def test_all_the_recipes_are_there():
    names = {path.stem for path in FILES}
    for size in SIZES:
        for recipe in (
            'mask-rcnn_{}_fpn_1x_coco',
            'mask-rcnn_{}_fpn_ms-crop-3x_coco',
            'cascade-mask-rcnn_{}_fpn_ms-crop-3x_coco',
        ):
            assert recipe.format(f'pyramid-weightformer-{size}') in names
    for head in ('retinanet', 'dino-4scale', 'rtmdet-ins', 'panoptic-fpn', 'mask2former'):
        assert any(name.startswith(f'{head}_pyramid-weightformer-tiny_') for name in names)
    for size in ('tiny', 'small'):
        assert any(name.startswith(f'mask-rcnn_weightformer-{size}_sfp_lsj-') for name in names)


def test_arithmetic_in_the_comment_is_that_of_the_values(recipe):
    (stated,) = ARITHMETIC.findall(Path(recipe.filename).read_text())
    epochs, images, batch, iterations = map(int, stated)
    dataset = recipe.train_dataloader.dataset
    assert epochs == recipe.train_cfg.max_epochs
    assert images == (WITH_OBJECTS if dataset.filter_cfg.filter_empty_gt else IMAGES)
    assert batch == recipe.auto_scale_lr.base_batch_size == 8 * recipe.train_dataloader.batch_size
    assert iterations == epochs * math.ceil(images / batch)


def test_schedule_ends_with_the_training(recipe):
    epochs = recipe.train_cfg.max_epochs
    last = recipe.param_scheduler[-1]
    assert last.by_epoch and last.end == epochs
    assert all(milestone < epochs for milestone in last.get('milestones', ()))


def test_the_name_says_backbone_and_epochs(recipe):
    name = Path(recipe.filename).stem
    backbone = recipe.model.backbone
    kind = {'PyramidWeightFormer': 'pyramid-weightformer', 'WeightFormer': 'weightformer'}
    assert f'_{kind[backbone.type]}-{backbone.arch}_' in name
    epochs = recipe.train_cfg.max_epochs
    assert (
        f'{epochs // 12}x_' in name
        if epochs in (12, 36) and 'fpn' in name
        else f'{epochs}e' in name
    )


def test_bfloat16_on_a_gpu_alone(recipe):
    wrapper = recipe.optim_wrapper
    assert (wrapper.type, wrapper.device_types) == ('Bf16OptimWrapper', ['cuda'])
    assert wrapper.type in OPTIM_WRAPPERS


def test_masks_are_read_where_they_are_predicted_and_evaluated(recipe):
    masks = 'mask' in str(recipe.model.get('roi_head', '')) or 'Ins' in str(
        recipe.model.get('bbox_head', {}).get('type')
    )
    for split in ('train', 'val', 'test'):
        pipeline = recipe[f'{split}_dataloader'].dataset.pipeline
        (load,) = [
            step for step in pipeline if step['type'].startswith('Load') and 'Anno' in step['type']
        ]
        if load['type'] == 'LoadPanopticAnnotations':  # reads all by itself
            assert recipe.model.panoptic_fusion_head
            return
        assert load.get('with_mask', False) == masks, split
    for split in ('val', 'test'):
        assert ('segm' in recipe[f'{split}_evaluator'].metric) == masks


def test_there_is_test_time_augmentation(recipe):
    if 'panoptic_fusion_head' in recipe.model:
        assert recipe.tta_model is None  # mmdet joins no segments
        return
    assert recipe.tta_model.type == 'DetTTAModel'
    (augment,) = [step for step in recipe.tta_pipeline if step['type'] == 'TestTimeAug']
    kinds = [step[0]['type'] for step in augment['transforms']]
    assert kinds.index('RandomFlip') < kinds.index('Pad') if 'Pad' in kinds else True
    assert len(augment['transforms'][0]) == 3 and len(augment['transforms'][1]) == 2
    assert kinds[-1] == 'PackDetInputs'
