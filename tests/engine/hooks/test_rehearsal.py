"""What does not fit is said before the first iteration, and a rehearsal leaves no trace."""

from __future__ import annotations

import copy
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.registry import PARAM_SCHEDULERS

from tests.helpers.commands import DETECTION, SEGMENTATION, differing_weights, options
from weightformer_mm.apis.training import train
from weightformer_mm.config.read import load_config
from weightformer_mm.engine.hooks import rehearsal
from weightformer_mm.engine.hooks.rehearsal import RehearsalHook
from weightformer_mm.errors import UserError

ALONE = {
    f'{split}_dataloader.{key}': value
    for split in ('train', 'val')
    for key, value in (('num_workers', 0), ('persistent_workers', False))
}
WRONG = [
    (
        DETECTION,
        'model.neck.in_channels=[8,16,24,33]',
        r'config: model.neck \(FPN\): .*\(8, 16, 24, 32',
    ),
    (
        DETECTION,
        'model.neck.in_channels=[8,16,24]',
        r'config: model.neck \(FPN\): this does not hold',
    ),
    (
        DETECTION,
        'train_dataloader.batch_sampler.type=AspectRatioBatchSampler model.neck.in_channels=[8,16,24,33]',
        r'config: model.neck \(FPN\): .*\(8, 16, 24, 32',
    ),
    (
        DETECTION,
        'model.rpn_head.bbox_coder.target_stds=[1,1,1]',
        r'config: model.rpn_head.bbox_coder \(DeltaXYWHBBoxCoder\): ',
    ),
    (
        DETECTION,
        'model.train_cfg.rpn.assigner.pos_iou_thr=x',
        r'config: model.train_cfg.rpn.assigner \(MaxIoUAssigner\): ',
    ),
    (
        DETECTION,
        'model.data_preprocessor.pad_size_divisor=0',
        r'config: model.data_preprocessor .*: ZeroDivisionError',
    ),
    (
        SEGMENTATION,
        'model.decode_head.norm_cfg.type=No',
        'config: model.decode_head.norm_cfg: KeyError',
    ),
    (
        SEGMENTATION,
        'val_evaluator.foo=1',
        'config: val_evaluator: IoUMetric got an unexpected key .foo',
    ),
    (
        SEGMENTATION,
        'train_cfg.max_epochs=3 param_scheduler.2.type=StepLR param_scheduler.2.step_size=0',
        r'config: param_scheduler.2 \(StepLR\): ZeroDivisionError',
    ),
    (
        SEGMENTATION,
        'param_scheduler.2.type=OneCycleLR param_scheduler.2.eta_max=0.1 param_scheduler.2.total_steps=2 '
        'train_cfg.max_epochs=5',
        r'config: param_scheduler.2 \(OneCycleLR\): .* number of total steps is 2 .*; leave total_steps out',
    ),
    (
        SEGMENTATION,
        'param_scheduler.2.type=ReduceOnPlateauLR param_scheduler.2.monitor=mIoU',
        "ReduceOnPlateauLR.rule='less': greater values of its monitor=mIoU .* set rule='greater'",
    ),
    (
        SEGMENTATION,
        'optim_wrapper.clip_grad.mx_norm=1 optim_wrapper.accumulative_counts=4',
        "config: optim_wrapper.clip_grad: TypeError: .*'mx_norm'",
    ),
    (
        SEGMENTATION,
        'default_hooks.checkpoint.out_dir=/proc/none',
        'default_hooks.checkpoint.out_dir /proc/none: cannot write there',
    ),
    (
        SEGMENTATION,
        'default_hooks.checkpoint.max_keep_ckpts=x',
        r'config: default_hooks.checkpoint \(KeepingCheckpointHook\): TypeError: ',
    ),
    (
        SEGMENTATION,
        'custom_hooks.0.type=EMAHook custom_hooks.0.momentum=x',
        r'config: custom_hooks.0 \(EMAHook\): TypeError: ',
    ),
    (DETECTION, 'val_evaluator.metric=mAP', 'config: val_evaluator: .*should be one of'),
    (
        DETECTION,
        'default_hooks.checkpoint.save_best=mAP',
        'save_best=mAP: .* gives .*coco/bbox_mAP,',
    ),
    (DETECTION, 'default_hooks.checkpoint.kep=3', 'config: default_hooks.checkpoint: unknown kep'),
    (DETECTION, 'model.rpn_head.in_channels=7', r'config: model.rpn_head \(RPNHead\): '),
    (
        SEGMENTATION,
        'default_hooks.checkpoint.save_best=val/mIoU',
        'save_best=val/mIoU: .* gives aAcc, mAcc, mIoU',
    ),
    (
        SEGMENTATION,
        'val_evaluator.iou_metrics=[mIuO]',
        r'config: val_evaluator \(IoUMetric\): KeyError',
    ),
    (
        SEGMENTATION,
        'model.decode_head.in_channels=[8,16,24,9]',
        r'config: model.decode_head \(UPerHead',
    ),
    (
        SEGMENTATION,
        'model.decode_head.loss_decode.class_weight=[1,2]',
        'model.decode_head.loss_decode .*; its class_weight has 2 values',
    ),
    (
        SEGMENTATION,
        'model.backbone.in_channels=4',
        r'config: model.backbone \(PyramidWeightFormer\): expected images \(B, 4, [^;]*$',
    ),
    (
        SEGMENTATION,
        'train_dataloader.dataset.reduce_zero_label=False',
        'config: train_dataloader: .*reduce_zero_label',
    ),
    (
        SEGMENTATION,
        'train_dataloader.collate_fn.type=No',
        'config: train_dataloader: TypeError: .* callable',
    ),
    *(
        (
            config,
            f'{split}_dataloader.dataset.pipeline=[]',
            f'config: {split}_dataloader: .*samples without .inputs.',
        )
        for config in (DETECTION, SEGMENTATION)
        for split in ('train', 'val')
    ),
    *(
        (
            DETECTION,
            f'train_dataloader.dataset.pipeline.1.{option}=False',
            f'config: train_dataloader: the pipeline of its data set loads no {what}',
        )
        for option, what in (('with_mask', 'masks, and'), ('with_bbox', 'objects:'))
    ),
    (
        SEGMENTATION,
        'train_dataloader.batch_size=99 train_dataloader.drop_last=True',
        'config: train_dataloader: 8 images fill no batch of batch_size=99',
    ),
    (
        SEGMENTATION,
        'model.backbone.init_cfg.1.std=x',
        'config: model.backbone.init_cfg.1: TypeError',
    ),
    (
        DETECTION,
        'model.neck.init_cfg.type=Xavier model.neck.init_cfg.layer=Conv2d model.neck.init_cfg.distribution=x',
        'config: model.neck.init_cfg: .*distribution in',
    ),
    (SEGMENTATION, 'model.data_preprocessor.mean=[1,2,3,4]', 'config: model.data_preprocessor: '),
    (SEGMENTATION, 'model.test_cfg.mode=x', r'config: model \(EncoderDecoder\): Only "slide" or'),
    (SEGMENTATION, 'optim_wrapper.optimizer.foo=1', 'optim_wrapper.optimizer: AdamW got an unexp'),
    (SEGMENTATION, 'optim_wrapper.optimizer.lr=x', 'config: optim_wrapper.optimizer: TypeError'),
    (
        SEGMENTATION,
        'optim_wrapper.optimizer.type=No',
        "optim_wrapper.optimizer: type='No' is not in",
    ),
    (SEGMENTATION, 'param_scheduler.0.type=No', "config: param_scheduler.0: type='No' is not in"),
    (
        SEGMENTATION,
        'train_dataloader.sampler.type=No',
        "config: train_dataloader.sampler: type='No'",
    ),
    (
        SEGMENTATION,
        'model.backbone.drop_path_rate=x',
        'config: model.backbone: expected a number drop_pa',
    ),
]


def run(config: Path, data: Path, work_dir: Path, *more: str, **changes: object) -> None:
    keys = {option.partition('=')[0] for option in more}
    given = [
        o for o in options(config, data, **ALONE, **changes)[1:] if o.partition('=')[0] not in keys
    ]
    # two runs of one process that begin in the same second would share it
    MessageHub._instance_dict.clear()
    train(str(config), str(work_dir), options=[*given, *more])


@pytest.mark.parametrize(('config', 'option', 'message'), WRONG, ids=[case[1] for case in WRONG])
def test_what_does_not_fit_is_said_before_the_first_iteration(
    config, option, message, shapes, tmp_path, capsys
):
    with pytest.raises(UserError, match=message) as error:
        run(config, shapes, tmp_path, *option.split())
    assert '\n' not in str(error.value)
    assert 'Epoch(train)' not in capsys.readouterr().out and not list(tmp_path.glob('*.pth'))


def schedules(**options: object) -> SimpleNamespace:
    """A runner of some epochs with one schedule."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    loop = SimpleNamespace(max_epochs=5, max_iters=50)
    schedule = PARAM_SCHEDULERS.build({'optimizer': optimizer, **options})
    return SimpleNamespace(
        param_schedulers=[schedule], train_loop=loop, cfg={}, hooks=[], val_loop=None
    )


@pytest.mark.parametrize(('by_epoch', 'steps'), [(True, 5), (False, 50)])
def test_a_cycle_as_long_as_the_run(by_epoch, steps):
    options = {'type': 'OneCycleLR', 'eta_max': 1.0, 'by_epoch': by_epoch}
    runner = schedules(**options, total_steps=steps)
    schedule = runner.param_schedulers[0]
    kept = {name for name, value in vars(schedule).items() if not callable(value)} - {'optimizer'}
    before = copy.deepcopy({name: vars(schedule)[name] for name in kept})
    groups = [
        {name: value for name, value in group.items() if name != 'params'}
        for group in copy.deepcopy(schedule.optimizer.param_groups)
    ]
    rehearsal._step_schedules(runner)
    assert {name: vars(schedule)[name] for name in kept} == before and before['last_step'] == 0
    for group, values in zip(schedule.optimizer.param_groups, groups):
        assert {name: group[name] for name in values} == values and group.keys() - {*values} == {
            'params'
        }
    with pytest.raises(UserError, match='number of total steps is'):
        rehearsal._step_schedules(schedules(**options, total_steps=steps - 2))
    rehearsal._step_schedules(schedules(**options, total_steps=steps - 2, end=steps - 2))


@pytest.mark.parametrize(
    ('monitor', 'rule', 'is_wrong'),
    [
        ('coco/bbox_mAP', 'less', True),
        ('single-label/precision', 'less', True),
        ('coco/bbox_mAP', 'greater', False),
        ('acc_loss', 'less', False),
        ('top1_error', 'less', False),
        ('loss', 'less', False),
        ('FID', 'less', False),
    ],
)
def test_what_a_plateau_is(monitor, rule, is_wrong):
    runner = schedules(type='ReduceOnPlateauLR', monitor=monitor, rule=rule)
    with pytest.raises(UserError, match="set rule='greater'") if is_wrong else nullcontext():
        rehearsal._check_rules(runner, None)


@pytest.mark.parametrize('rule', [None, 'greater'])
@pytest.mark.parametrize(
    ('found', 'is_known'), [({'coco_panoptic/PQ': 1.0}, False), ({'mIoU': 1.0, 'x': 1.0}, True)]
)
def test_whether_greater_is_better_is_known(found, is_known, rule):
    hook = CheckpointHook(save_best='auto', rule=rule)
    runner = SimpleNamespace(param_schedulers=None, hooks=[hook], val_loop=None)
    refused = pytest.raises(UserError, match='save_best=auto: .*PQ .*checkpoint.rule')
    with nullcontext() if is_known or rule else refused:
        rehearsal._check_rules(runner, found)
    assert hook.key_indicators == ['auto']


def test_the_names_of_a_panoptic_metric():
    class CocoPanopticMetric:
        prefix = 'coco_panoptic'

    evaluator = SimpleNamespace(metrics=[CocoPanopticMetric()])
    runner = SimpleNamespace(
        param_schedulers=[],
        hooks=[CheckpointHook(save_best='auto')],
        val_loop=SimpleNamespace(evaluator=evaluator),
    )
    with pytest.raises(UserError, match='values of coco_panoptic/PQ are better is unknown'):
        rehearsal._check_rules(runner, None)


def evaluate_two_sizes(shapes: Path, tmp_path: Path, lower: int) -> None:
    """A training whose validation has batches of two, and a lower image of this number."""
    data = shutil.copytree(shapes, tmp_path / 'shapes')
    for folder in ('images', 'annotations'):
        path = str(data / folder / f'val/00000{lower}.png')
        cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_UNCHANGED)[:64])
    options = ('val_dataloader.batch_size=2', 'val_cfg.type=ValLoop')
    run(SEGMENTATION, data, tmp_path / 'work', *options)


def test_images_of_two_sizes_in_a_batch_of_an_evaluation(shapes, tmp_path):
    with pytest.raises(UserError, match='val_dataloader.batch_size=2: images of different sizes'):
        evaluate_two_sizes(shapes, tmp_path, lower=2)


def test_images_of_two_sizes_that_come_later(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, '_LOOKED_AT', 1)
    with pytest.raises(UserError, match='different sizes: set batch_size .* 1, .* --resume cont'):
        evaluate_two_sizes(shapes, tmp_path, lower=1)


def test_a_rehearsal_leaves_no_trace(shapes, tmp_path, monkeypatch):
    rates = ('model.backbone.drop_path_rate=0.5', 'randomness.seed=3')
    plain = 'exact_resume=False'  # else random numbers depend on the position alone
    run(SEGMENTATION, shapes, tmp_path / 'with', *rates, plain)
    monkeypatch.setattr(RehearsalHook, 'before_train', lambda self, runner: None)
    run(SEGMENTATION, shapes, tmp_path / 'without', *rates, plain)
    one, other = (tmp_path / name / 'epoch_1.pth' for name in ('with', 'without'))
    assert differing_weights(one, other) == []
    states = [torch.load(path, weights_only=True)['message_hub'] for path in (one, other)]
    assert states[0]['log_scalars'].keys() == states[1]['log_scalars'].keys()


def test_statistics_modes_and_random_numbers_are_put_back():
    model = torch.nn.BatchNorm2d(3).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(KeyError):
        with rehearsal._undone(model):
            model.train()(torch.randn(2, 3, 4, 4))
            raise KeyError
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training and torch.equal(state, torch.get_rng_state())


def test_metrics_are_put_back_with_all_they_keep():
    """mmdet's metric, without a file of its own, keeps the annotations of the first images that it meets."""
    metric = SimpleNamespace(results=['one'], annotations=None)
    with rehearsal._results_kept(SimpleNamespace(metrics=[metric])):
        assert metric.results == []
        metric.results.append('two')
        metric.annotations = metric.found = 'of two'
    assert vars(metric) == {'results': ['one'], 'annotations': None}


def with_switch(data: Path, **changes: object) -> Config:
    """A config whose pipeline changes before the first epoch, to its own with some keys changed."""
    given = options(DETECTION, data, **ALONE, train_dataloader__batch_size=1)
    cfg = load_config(DETECTION, given[1:])
    steps = [dict(step) for step in cfg.train_dataloader.dataset.pipeline]
    steps[-1].update(changes)
    cfg.custom_hooks = [
        {'type': 'mmdet.PipelineSwitchHook', 'switch_epoch': 0, 'switch_pipeline': steps}
    ]
    return cfg


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'type': 'PackDetInput'}, 'config: custom_hooks.*PackDetInput.* is not in the'),
        ({'type': 'CopyPaste'}, 'config: custom_hooks.*CopyPaste.*mix_results'),
    ],
)
def test_a_pipeline_that_comes_later_is_tried(changes, message, tiny_set, tmp_path):
    with pytest.raises(UserError, match=message):
        train(with_switch(tiny_set, **changes), str(tmp_path))


def test_a_transform_of_the_training_is_named_not_that_of_views(tiny_set, tmp_path):
    cfg = with_switch(tiny_set)
    cfg.custom_hooks = []
    steps = cfg.train_dataloader.dataset.pipeline
    steps.insert(2, {'type': 'RandomCrop', 'crop_size': (1, 1)})
    place = f'train_dataloader.dataset.pipeline.{len(steps) - 1}'
    with pytest.raises(UserError, match=rf'config: {place} \(PackDetInputs\): '):
        train(cfg, str(tmp_path))


def test_a_pipeline_inside_of_a_wrapper_cannot_be_switched(tiny_set, tmp_path):
    cfg = with_switch(tiny_set)
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = {'type': 'RepeatDataset', 'times': 1, 'dataset': inner}
    with pytest.raises(UserError, match='cannot change the pipelines inside of RepeatDataset'):
        train(cfg, str(tmp_path))


def test_a_damaged_image_is_named_after_a_switch(tiny_set, tmp_path):
    data = Path(shutil.copytree(tiny_set, tmp_path / 'set'))
    last = sorted((data / 'images/train').iterdir())[-1]
    cv2.imwrite(str(last), np.zeros((64, 64, 3), np.uint8))
    last.write_bytes(last.read_bytes()[:40])
    with pytest.raises(UserError, match=f'cannot read the image {last}'):
        train(with_switch(data), str(tmp_path / 'work'))
