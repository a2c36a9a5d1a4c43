"""Values of a config that mmengine's runner reads."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

from tests.helpers.commands import DETECTION, SEGMENTATION
from weightformer_mm.config.read import load_config
from weightformer_mm.config.values import check_values
from weightformer_mm.errors import UserError
from weightformer_mm.utils.blame import nodes

VARIANTS = 300
READ = (
    'model',
    'optim_wrapper',
    'param_scheduler',
    'default_hooks',
    'randomness',
    'env_cfg',
    'log_level',
)
READ += tuple(f'{split}_{part}' for split in ('train', 'val') for part in ('dataloader', 'cfg'))
ODD = [None, 'x', '', -1, 0, 1.5, True, [], [1, 2], {}, {'type': 3}, float('nan'), 10**12, object()]


@cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


def changed(path: Path, place: str, value: object) -> Config:
    cfg = copy.deepcopy(read(path))
    *parents, last = place.split('.')
    node = cfg._cfg_dict
    for part in parents:
        if isinstance(node, dict) and part not in node:
            node[part] = {}
        node = node[int(part) if isinstance(node, list) else part]
    node[int(last) if isinstance(node, list) else last] = value
    return cfg


@pytest.mark.parametrize(
    ('place', 'value'),
    [
        ('train_dataloader.batch_size', 0),
        ('val_dataloader.batch_size', '2'),
        ('train_dataloader.num_workers', -1),
        ('train_dataloader.persistent_workers', 'maybe'),
        ('train_dataloader.dataset', None),
        ('train_dataloader.dataset.ann_file', [1]),
        ('train_dataloader.dataset.filter_cfg', [1]),
        ('train_dataloader.dataset.indices', 0),
        ('train_dataloader.dataset.indices', '1'),
        ('train_dataloader.dataset.times', '2'),
        ('train_dataloader.dataset.dataset', [1]),
        ('train_dataloader.dataset.times', 0),
        ('train_dataloader.dataset.datasets', {'type': 'CocoDataset'}),
        ('train_dataloader.dataset.datasets', [None]),
        ('train_dataloader.dataset.oversample_thr', 'a'),
        ('train_dataloader', 3),
        ('model', [1]),
        ('model.test_cfg', []),
        ('train_cfg.max_epochs', 0),
        ('train_cfg.val_interval', 0),
        ('train_cfg', 'x'),
        ('randomness.seed', -1),
        ('randomness.seed', 2**32),
        ('optim_wrapper.accumulative_counts', 0),
        ('optim_wrapper.optimizer', 'AdamW'),
        ('param_scheduler', 3),
        ('param_scheduler.0.by_epoch', 'x'),
        ('val_evaluator', 3),
        ('custom_hooks', [3]),
        ('default_hooks', []),
        ('default_hooks.logger.interval', 1.5),
        ('log_level', 'LOUD'),
        ('default_hooks.checkpoint.save_begin', '3'),
        ('default_hooks.logger', 3),
        ('default_hooks.logger.priority', 'nope'),
        ('default_hooks.logger.priority', 101),
        ('env_cfg.mp_cfg.mp_start_method', 'nope'),
        ('env_cfg.mp_cfg.opencv_num_threads', 'x'),
        ('env_cfg.resource_limit', 'x'),
        ('randomness.deterministic', 'x'),
        ('randomness.diff_rank_seed', 1),
        ('randomness', {'sed': 3}),
        ('auto_scale_lr', {'base_batch_size': 8, 'enabled': True}),
        ('train_dataloader.sampler.shuffle', 'maybe'),
        ('train_dataloader.num_batch_per_epoch', 0),
        ('val_evaluator.metrics', ['mIoU']),
        ('log_processor.window_size', 0),
        ('sync_bn', 'nope'),
        ('default_hooks.visualization.interval', 0),
        ('train_dataloader.dataset.data_prefix', 3),
        ('optim_wrapper.paramwise_cfg', {'norm_decay_mul': 0.0}),
        ('optim_wrapper.paramwise_cfg.custom_keys', {'backbone': {'lr_mul': 0.1}}),
        ('optim_wrapper.paramwise_cfg.custom_keys', 3),
        ('train_dataloader.dataset.filter_cfg', {'filter_empty': True}),
        ('model.neck.init_cfg', 3),
        ('model.decode_head.init_cfg', [3]),
        ('work_dir', 3),
        ('exact_resume', 'yes'),
    ],
)
def test_a_wrong_value_is_named_with_its_place(place, value):
    with pytest.raises(UserError) as error:
        load_config(changed(SEGMENTATION, place, value))
    assert f'config {SEGMENTATION}: expected ' in str(error.value)
    assert re.search(rf'{place}(\.\S+)? ', str(error.value)) and ', got ' in str(error.value)


def test_keys_of_other_code_are_not_refused():
    place = 'optim_wrapper.paramwise_cfg.custom_keys'
    check_values(changed(SEGMENTATION, place, {'backbone': {'lr_mult': 0.1, 'momentum': 0.8}}))
    place = 'train_dataloader.dataset.filter_cfg'
    check_values(changed(SEGMENTATION, place, {'min_size': 8, 'max_size': 9, 'min_area': 3}))


@pytest.mark.parametrize('wrong', [{'filter_empty_gt': 'no'}, {'min_size': '32'}])
def test_a_wrong_filter(wrong):
    cfg = changed(SEGMENTATION, 'train_dataloader.dataset.filter_cfg', wrong)
    with pytest.raises(UserError, match=f'train_dataloader.dataset.filter_cfg.{[*wrong][0]} '):
        load_config(cfg)


@pytest.mark.parametrize('key', ['test_cfg.rcnn.nms.type', 'test_cfg.nms_cfg.type', 'dqs_cfg.type'])
@pytest.mark.parametrize('value', ['Nope', '__import__("os").getpid()', '', 3])
def test_what_a_library_would_evaluate_is_a_known_name(key, value):
    with pytest.raises(UserError, match=f'expected model.{key} to be one of nms, soft_nms, '):
        load_config(changed(DETECTION, f'model.{key}', value))
    for fits in ('soft_nms', len):  # a function is called as it is
        check_values(changed(DETECTION, f'model.{key}', fits))
    with pytest.raises(UserError, match='expected model.warp_mode to be one of cv2.MOTION_TRANSL'):
        check_values(changed(DETECTION, 'model.warp_mode', value))


@pytest.mark.parametrize('part', ['val_dataloader', 'val_cfg', 'val_evaluator'])
def test_a_split_is_there_or_not(part):
    with pytest.raises(
        UserError, match=f'{part} is None, but .* set all of val_dataloader, val_cfg'
    ):
        load_config(changed(SEGMENTATION, part, None))
    cfg = copy.deepcopy(read(SEGMENTATION))
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    check_values(cfg)


def test_prefetching_needs_workers():
    cfg = changed(SEGMENTATION, 'train_dataloader.prefetch_factor', 2)
    cfg.train_dataloader.num_workers = 1
    check_values(cfg)
    cfg.train_dataloader.num_workers = 0
    with pytest.raises(UserError, match='train_dataloader.prefetch_factor=2 needs num_workers'):
        check_values(cfg)


def test_odd_values_are_refused_or_harmless():
    draw, counts = random.Random(0), Counter()
    for _ in range(VARIANTS):
        path = draw.choice([DETECTION, SEGMENTATION])
        places = [place for place, _ in nodes(read(path)._cfg_dict, '') if place.count('.') < 3]
        place = draw.choice([place for place in places if place.split('.')[0] in READ])
        cfg = changed(path, place, draw.choice(ODD))
        try:
            check_values(cfg)
        except UserError as error:
            assert f'config {path}: ' in str(error) and '\n' not in str(error)
            counts['refused'] += 1
        else:
            counts['left to others'] += 1
    print(dict(counts))
    assert min(counts.values()) > VARIANTS / 10
