"""What a training or an evaluation would wait for without end, or leave out."""

from __future__ import annotations

import copy

import pytest
from mmengine.config import Config

from tests.config.test_values import changed, read
from tests.helpers.commands import DETECTION, SEGMENTATION
from weightformer_mm.config.run import check_run
from weightformer_mm.errors import UserError


def check_all(cfg: Config) -> None:
    check_run(cfg, ('train', 'val', 'test'))


@pytest.mark.parametrize(
    'sampler', ['InfiniteSampler', 'mmdet.MultiSourceSampler', 'mmdet.GroupMultiSourceSampler']
)
def test_a_pass_over_the_data_ends(sampler):
    cfg = changed(DETECTION, 'train_dataloader.sampler.type', sampler)
    line = f'train_dataloader.sampler: {sampler.rpartition(".")[2]} never ends.*by_epoch=False with max_iters'
    with pytest.raises(UserError, match=line):
        check_all(cfg)
    cfg.train_cfg = {'type': 'EpochBasedTrainLoop', 'max_epochs': 1}
    with pytest.raises(UserError, match=line):
        check_all(cfg)
    cfg.default_hooks.checkpoint.by_epoch = False
    for loop in ({'by_epoch': False}, {'type': 'IterBasedTrainLoop'}):
        cfg.train_cfg = {'max_iters': 1, **loop}
        check_all(cfg)
    for split in ('val', 'test'):
        with pytest.raises(
            UserError, match=f'{split}_dataloader.sampler: .*; take DefaultSampler$'
        ):
            check_all(changed(DETECTION, f'{split}_dataloader.sampler.type', sampler))


@pytest.mark.parametrize('split', ['val', 'test'])
def test_an_evaluation_of_all_images(split):
    cfg = changed(SEGMENTATION, f'{split}_dataloader.drop_last', True)
    cfg[f'{split}_dataloader'].batch_size = 1  # nothing is left over
    check_all(cfg)
    cfg[f'{split}_dataloader'].batch_size = 2
    with pytest.raises(
        UserError, match=f'{split}_dataloader.drop_last=True leaves images .*False$'
    ):
        check_all(cfg)


ITERATIONS = [{'by_epoch': False}, {'type': 'IterBasedTrainLoop'}]
BY_ITERATION = {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 3}
WARM_UP = {'type': 'LinearLR', 'by_epoch': False, 'end': 3}


def by_iterations(loop: dict, schedules: object, **hooks: object) -> Config:
    cfg = copy.deepcopy(read(SEGMENTATION))
    cfg.train_cfg, cfg.param_scheduler = {'max_iters': 9, **loop}, schedules
    cfg.default_hooks = hooks
    return cfg


@pytest.mark.parametrize('loop', ITERATIONS)
@pytest.mark.parametrize(
    ('schedules', 'hooks', 'place'),
    [
        ([WARM_UP, {'type': 'MultiStepLR'}], {'checkpoint': BY_ITERATION}, 'param_scheduler.1'),
        ({'type': 'PolyLR', 'by_epoch': True}, {'checkpoint': BY_ITERATION}, 'param_scheduler'),
        ({'a': WARM_UP, 'b': {'type': 'PolyLR'}}, {'checkpoint': None}, 'param_scheduler.b'),
    ],
)
def test_a_run_of_iterations_counts_iterations(loop, schedules, hooks, place):
    line = f': {place}: it counts epochs, and train_cfg iterations.* set {place}.by_epoch=False'
    with pytest.raises(UserError, match=line):
        check_all(by_iterations(loop, schedules, **hooks))


@pytest.mark.parametrize('loop', [*ITERATIONS, {'type': 'SomeTrainLoop', 'by_epoch': True}])
@pytest.mark.parametrize(
    ('schedules', 'checkpoint'),
    [
        (WARM_UP, BY_ITERATION),
        ({'type': 'PolyLR', 'convert_to_iter_based': True, 'end': 2}, BY_ITERATION),
        ({'type': 'ReduceOnPlateauLR', 'monitor': 'mIoU'}, BY_ITERATION),
        (None, None),
        (None, {'type': 'CheckpointHook', 'interval': -1, 'save_best': 'mIoU'}),
        (None, {'type': 'SomeCheckpointHook', 'interval': 3}),
        (None, {'type': 'CheckpointHook', 'interval': 3}),  # it saves at the end
    ],
)
def test_what_works_in_a_run_of_iterations(loop, schedules, checkpoint):
    check_all(by_iterations(loop, schedules, checkpoint=checkpoint))


def test_a_run_of_epochs_may_count_either():
    cfg = copy.deepcopy(read(SEGMENTATION))
    cfg.param_scheduler, cfg.default_hooks.checkpoint = [WARM_UP, {'type': 'PolyLR'}], BY_ITERATION
    check_all(cfg)


LOOPS = [
    ({'max_epochs': 3}, 'max_epochs', {}),
    ({'max_iters': 3, 'by_epoch': False}, 'max_iters', BY_ITERATION),
]


@pytest.mark.parametrize(('loop', 'unit', 'counts'), LOOPS)
@pytest.mark.parametrize(
    ('place', 'value'),
    [
        ('default_hooks.checkpoint.save_best', 'auto'),
        ('custom_hooks.0', {'type': 'mmengine.EarlyStoppingHook', 'monitor': 'mIoU'}),
        ('param_scheduler.0', {'type': 'ReduceOnPlateauLR', 'monitor': 'mIoU', 'rule': 'greater'}),
    ],
)
def test_what_waits_for_an_evaluation_gets_one(loop, unit, counts, place, value):
    cfg = changed(SEGMENTATION, 'train_cfg', {**loop, 'val_begin': 4})
    cfg.param_scheduler, cfg.custom_hooks = [WARM_UP], [{'type': 'EMAHook'}]
    cfg.default_hooks.checkpoint.update(counts)
    check_all(cfg)  # mmdet has such schedules, which evaluate nothing
    cfg.merge_from_dict({place: {'_delete_': True, **value} if '.0' in place else value})
    line = f'train_cfg.val_begin=4 is beyond train_cfg.{unit}=3: nothing would be evaluated for {place}'
    with pytest.raises(UserError, match=line):
        check_all(cfg)
    cfg.train_cfg.val_begin = 3
    check_all(cfg)


@pytest.mark.parametrize(('loop', 'unit', 'counts'), LOOPS)
def test_something_is_saved(loop, unit, counts):
    cfg = changed(SEGMENTATION, 'train_cfg', loop)
    cfg.param_scheduler = [WARM_UP]
    hook = cfg.default_hooks.checkpoint
    hook.update({**counts, 'save_begin': 4, 'save_last': False})
    line = f'checkpoint.save_begin=4 is beyond train_cfg.{unit}=3: nothing would be saved'
    with pytest.raises(UserError, match=line):
        check_all(cfg)
    for sound in ({'save_begin': 3}, {'save_last': True}, {'save_best': 'mIoU'}):
        other = copy.deepcopy(cfg)
        other.default_hooks.checkpoint.update(sound)
        check_all(other)


@pytest.mark.parametrize(
    'name', ['latest.pth', 'epoch_{epoch}.pth', '{}_{}.pth', 'epoch_{:q}.pth', '{', 3]
)
@pytest.mark.parametrize('place', ['default_hooks.checkpoint', 'custom_hooks.0'])
def test_checkpoints_have_names_of_their_own(place, name):
    cfg = changed(SEGMENTATION, 'custom_hooks', [{'type': 'Drawing', 'filename_tmpl': 'last.png'}])
    check_all(cfg)
    cfg.merge_from_dict({place: {'type': 'CheckpointHook', 'filename_tmpl': name}})
    with pytest.raises(UserError, match=f'expected {place}.filename_tmpl to be a name with one'):
        check_all(cfg)
    for sound in (None, 'epoch_{}.pth', 'e{0:03d}.pth'):
        cfg.merge_from_dict({place: {'filename_tmpl': sound}})
        check_all(cfg)
