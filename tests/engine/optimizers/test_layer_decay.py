"""Layer-wise learning rate decay: the rate and the weight decay of every parameter."""

from __future__ import annotations

import functools
import json
import logging
import multiprocessing
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, BaseTTAModel, MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

import weightformer_mm  # noqa: F401  registers the constructor and the backbones
from tests.helpers import needs

CONFIGS = Path(__file__).parents[3] / 'configs/shapes'
CONSTRUCTOR = 'LayerDecayOptimWrapperConstructor'
LR, DECAY, RATE = 1.0, 0.5, 0.5  # powers of two: every product is exact
RULES = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)


def build(cfg: dict, scope: str) -> nn.Module:
    import_module(f'{scope}.models')
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(cfg)


def wrap(model: nn.Module, kind: str = 'OptimWrapper', optimizer: dict | None = None, **paramwise):
    return build_optim_wrapper(
        model,
        dict(
            type=kind,
            constructor=CONSTRUCTOR,
            optimizer=dict(lr=LR, weight_decay=DECAY, **(optimizer or dict(type='AdamW'))),
            paramwise_cfg=dict(layer_decay_rate=RATE, **paramwise),
        ),
    )


def settings(model: nn.Module, wrapper) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter that is in the optimizer."""
    groups = wrapper.optimizer.param_groups
    ids = [id(parameter) for group in groups for parameter in group['params']]
    assert len(ids) == len(set(ids))
    given = {
        id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']
    }
    return {name: given[id(p)] for name, p in model.named_parameters() if id(p) in given}


def shapes_model(name: str) -> dict:
    return Config.fromfile(CONFIGS / name).model


def detector_cfg() -> dict:
    """RetinaNet without a second convolution, on a pyramid of four blocks in two stages."""
    return dict(
        type='RetinaNet',
        backbone=dict(
            type='PyramidWeightFormer',
            arch=dict(embed_dims=[32, 32], depths=[2, 2]),
            out_indices=(0, 1),
        ),
        neck=dict(type='FPN', in_channels=[32, 32], out_channels=8, num_outs=2),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=3,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8]),
        ),
    )


# (lr, weight decay) as multiples of the base values; layers: stem 0, blocks 1 to 4, the rest 5
DETECTOR = {
    'backbone.stages.0.downsample.conv1.weight': (1 / 32, 1),
    'backbone.stages.0.downsample.conv1.bias': (1 / 32, 0),
    'backbone.stages.0.downsample.norm1.weight': (1 / 32, 0),
    'backbone.stages.0.downsample.norm1.bias': (1 / 32, 0),
    'backbone.stages.0.downsample.conv2.weight': (1 / 32, 1),
    'backbone.stages.0.downsample.conv2.bias': (1 / 32, 0),
    'backbone.stages.0.downsample.norm2.weight': (1 / 32, 0),
    'backbone.stages.0.downsample.norm2.bias': (1 / 32, 0),
    'backbone.stages.0.blocks.0.dwc.weight': (1 / 16, 1),
    'backbone.stages.0.blocks.0.dwc.bias': (1 / 16, 0),
    'backbone.stages.0.blocks.0.norm2.weight': (1 / 16, 0),
    'backbone.stages.0.blocks.0.norm2.bias': (1 / 16, 0),
    'backbone.stages.0.blocks.0.linear1.weight': (1 / 16, 1),
    'backbone.stages.0.blocks.0.linear1.bias': (1 / 16, 0),
    'backbone.stages.0.blocks.0.linear2.weight': (1 / 16, 1),
    'backbone.stages.0.blocks.0.linear2.bias': (1 / 16, 0),
    'backbone.stages.0.blocks.1.dwc.weight': (1 / 8, 1),
    'backbone.stages.0.blocks.1.dwc.bias': (1 / 8, 0),
    'backbone.stages.0.blocks.1.dwc.predictor.0.weight': (1 / 8, 1),
    'backbone.stages.0.blocks.1.dwc.predictor.0.bias': (1 / 8, 0),
    'backbone.stages.0.blocks.1.dwc.predictor.2.weight': (1 / 8, 1),
    'backbone.stages.0.blocks.1.norm2.weight': (1 / 8, 0),
    'backbone.stages.0.blocks.1.norm2.bias': (1 / 8, 0),
    'backbone.stages.0.blocks.1.linear1.weight': (1 / 8, 1),
    'backbone.stages.0.blocks.1.linear1.bias': (1 / 8, 0),
    'backbone.stages.0.blocks.1.linear1.predictor.expand_in': (1 / 8, 1),
    'backbone.stages.0.blocks.1.linear1.predictor.expand_out': (1 / 8, 1),
    'backbone.stages.0.blocks.1.linear1.predictor.reduce.weight': (1 / 8, 1),
    'backbone.stages.0.blocks.1.linear1.predictor.reduce.bias': (1 / 8, 0),
    'backbone.stages.0.blocks.1.linear2.weight': (1 / 8, 1),
    'backbone.stages.0.blocks.1.linear2.bias': (1 / 8, 0),
    'backbone.stages.0.blocks.1.norm1.weight': (1 / 8, 0),
    'backbone.stages.0.blocks.1.norm1.bias': (1 / 8, 0),
    'backbone.stages.1.downsample.conv.weight': (1 / 4, 1),
    'backbone.stages.1.downsample.conv.bias': (1 / 4, 0),
    'backbone.stages.1.downsample.norm.weight': (1 / 4, 0),
    'backbone.stages.1.downsample.norm.bias': (1 / 4, 0),
    'backbone.stages.1.blocks.0.dwc.weight': (1 / 4, 1),
    'backbone.stages.1.blocks.0.dwc.bias': (1 / 4, 0),
    'backbone.stages.1.blocks.0.norm2.weight': (1 / 4, 0),
    'backbone.stages.1.blocks.0.norm2.bias': (1 / 4, 0),
    'backbone.stages.1.blocks.0.linear1.weight': (1 / 4, 1),
    'backbone.stages.1.blocks.0.linear1.bias': (1 / 4, 0),
    'backbone.stages.1.blocks.0.linear2.weight': (1 / 4, 1),
    'backbone.stages.1.blocks.0.linear2.bias': (1 / 4, 0),
    'backbone.stages.1.blocks.1.dwc.weight': (1 / 2, 1),
    'backbone.stages.1.blocks.1.dwc.bias': (1 / 2, 0),
    'backbone.stages.1.blocks.1.norm2.weight': (1 / 2, 0),
    'backbone.stages.1.blocks.1.norm2.bias': (1 / 2, 0),
    'backbone.stages.1.blocks.1.linear1.weight': (1 / 2, 1),
    'backbone.stages.1.blocks.1.linear1.bias': (1 / 2, 0),
    'backbone.stages.1.blocks.1.linear2.weight': (1 / 2, 1),
    'backbone.stages.1.blocks.1.linear2.bias': (1 / 2, 0),
    'backbone.norm0.weight': (1, 0),
    'backbone.norm0.bias': (1, 0),
    'backbone.norm1.weight': (1, 0),
    'backbone.norm1.bias': (1, 0),
    'neck.lateral_convs.0.conv.weight': (1, 1),
    'neck.lateral_convs.0.conv.bias': (1, 0),
    'neck.lateral_convs.1.conv.weight': (1, 1),
    'neck.lateral_convs.1.conv.bias': (1, 0),
    'neck.fpn_convs.0.conv.weight': (1, 1),
    'neck.fpn_convs.0.conv.bias': (1, 0),
    'neck.fpn_convs.1.conv.weight': (1, 1),
    'neck.fpn_convs.1.conv.bias': (1, 0),
    'bbox_head.cls_convs.0.conv.weight': (1, 1),
    'bbox_head.cls_convs.0.conv.bias': (1, 0),
    'bbox_head.reg_convs.0.conv.weight': (1, 1),
    'bbox_head.reg_convs.0.conv.bias': (1, 0),
    'bbox_head.retina_cls.weight': (1, 1),
    'bbox_head.retina_cls.bias': (1, 0),
    'bbox_head.retina_reg.weight': (1, 1),
    'bbox_head.retina_reg.bias': (1, 0),
}
EXPECTED = {name: (LR * lr, DECAY * decay) for name, (lr, decay) in DETECTOR.items()}


@pytest.fixture(scope='module')
def detector() -> nn.Module:
    return build(detector_cfg(), 'mmdet')


OPTIMIZERS = {
    'adamw': dict(type='AdamW'),
    'sgd': dict(type='SGD', momentum=0.9),
    'muon': dict(type='TimmOptimizer', opt='nmuon'),
}


@pytest.mark.parametrize('optimizer', OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_parameter_of_a_detector(detector, optimizer):
    wrapper = wrap(detector, optimizer=optimizer)
    assert settings(detector, wrapper) == EXPECTED
    assert len(wrapper.optimizer.param_groups) == len(set(EXPECTED.values())) == 12
    assert wrapper.optimizer.param_groups[0]['lr'] == LR


def test_mixed_precision(detector):
    assert settings(detector, wrap(detector, 'Bf16OptimWrapper')) == EXPECTED


@pytest.mark.skipif(not torch.cuda.is_available(), reason='AmpOptimWrapper needs a GPU')
def test_mixed_precision_on_a_gpu(detector):
    assert settings(detector, wrap(detector, 'AmpOptimWrapper')) == EXPECTED


def test_the_options_of_other_constructors_that_say_the_same(detector):
    assert settings(detector, wrap(detector, **RULES, flat_decay_mult=0.0)) == EXPECTED


def test_a_rule_can_be_switched_off(detector):
    given = settings(detector, wrap(detector, norm_decay_mult=1.0))
    changed = {name for name in given if given[name] != EXPECTED[name]}
    assert changed == {
        name for name in EXPECTED if name.split('.')[-2].startswith('norm') and 'convs' not in name
    }


def test_custom_keys_multiply_the_rate_and_replace_the_decay(detector, caplog):
    keys = {
        'backbone': dict(lr_mult=0.5),
        'backbone.norm': dict(decay_mult=0.25),
        'reg_convs': dict(lr_mult=2.0, decay_mult=0.0),
        'cls_token': dict(decay_mult=0.0),
    }
    expected = {
        name: (lr * 0.5, decay) if name.startswith('backbone') else (lr, decay)
        for name, (lr, decay) in EXPECTED.items()
    }
    for name in expected:
        if name.startswith('backbone.norm'):
            expected[name] = (LR, DECAY * 0.25)
        elif 'reg_convs' in name:
            expected[name] = (LR * 2, 0.0)
    with log_of(caplog):
        assert settings(detector, wrap(detector, custom_keys=keys)) == expected
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.endswith('no parameter was left for cls_token')


class log_of:  # noqa: N801
    """Let pytest see mmengine's log, which does not propagate."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.logger = MMLogger.get_current_instance()
        self.handler = caplog.handler

    def __enter__(self) -> None:
        self.logger.addHandler(self.handler)

    def __exit__(self, *error: object) -> None:
        self.logger.removeHandler(self.handler)


def test_the_groups_are_logged_once_as_a_table(detector, caplog):
    with log_of(caplog):
        wrap(detector)
    (record,) = [r for r in caplog.records if 'Layer decay' in r.getMessage()]
    title, head, line, *rows = record.getMessage().splitlines()
    assert record.levelno == logging.INFO
    assert title == 'Layer decay 0.5 of PyramidWeightFormer:'
    assert len(rows) == 12
    cells = [row.split() for row in rows]
    assert sum(int(row[2]) for row in cells) == len(EXPECTED)
    assert sum(int(row[3]) for row in cells) == sum(p.numel() for p in detector.parameters())
    assert [float(row[0]) for row in cells[:4]] == [1.0, 1.0, 0.5, 0.5]


def test_without_decay_there_are_two_groups(detector):
    wrapper = build_optim_wrapper(
        detector,
        dict(
            constructor=CONSTRUCTOR,
            optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
            paramwise_cfg=dict(layer_decay_rate=1.0),
        ),
    )
    assert len(wrapper.optimizer.param_groups) == 2


def test_frozen_parameters_are_left_out():
    cfg = detector_cfg()
    cfg['backbone']['frozen_stages'] = 1
    model = build(cfg, 'mmdet')
    frozen = ('backbone.stages.0.', 'backbone.norm0.')
    expected = {name: value for name, value in EXPECTED.items() if not name.startswith(frozen)}
    assert settings(model, wrap(model)) == expected


def test_shared_parameters_come_once():
    model = build(detector_cfg(), 'mmdet')
    model.bbox_head.reg_convs = model.bbox_head.cls_convs  # as heads with share_conv do
    model.bbox_head.retina_reg.bias = model.backbone.norm0.bias
    given = settings(model, wrap(model))
    shared = ('bbox_head.reg_convs', 'bbox_head.retina_reg.bias')
    assert given == {n: value for n, value in EXPECTED.items() if not n.startswith(shared)}


class Fixed(BaseModel):
    """A model of one given backbone."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.backbone(inputs)


class Whole(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        raise NotImplementedError


def test_wrapped_for_test_time_augmentation(detector):
    assert settings(detector, wrap(Whole(detector))) == EXPECTED


def test_wrapped_for_distributed_training(detector, one_process):
    wrapped = MMDistributedDataParallel(detector)
    assert settings(detector, wrap(wrapped)) == EXPECTED
    assert settings(detector, wrap(Whole(wrapped))) == EXPECTED
    part_wise = build(detector_cfg(), 'mmdet')
    part_wise.backbone = MMDistributedDataParallel(part_wise.backbone)
    names = {n.replace('.module.', '.'): v for n, v in settings(part_wise, wrap(part_wise)).items()}
    assert names == EXPECTED


def shard(rank: int, results: str) -> None:
    """One of two processes that hold a half of every parameter each."""
    torch.set_num_threads(1)  # a fork has none of its parent's threads
    store = torch.distributed.FileStore(f'{results}/store', 2)
    torch.distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    backbone = dict(detector_cfg()['backbone'], out_indices=(1,))
    model = Fixed(MODELS.build(backbone))
    policy = functools.partial(size_based_auto_wrap_policy, min_num_params=4000)
    sharded = FullyShardedDataParallel(
        model,
        auto_wrap_policy=policy,
        device_id=torch.device('cpu'),
        use_orig_params=True,
    )
    assert {parameter.ndim for parameter in sharded.parameters()} == {1}
    given = settings(sharded, wrap(sharded))
    names = {name.replace('_fsdp_wrapped_module.', ''): value for name, value in given.items()}
    Path(results, str(rank)).write_text(json.dumps(names))
    torch.distributed.destroy_process_group()


@needs.sharding_on_cpu
def test_sharded(tmp_path):
    """Under FSDP every parameter has one dimension, and its name the wrappers' in it."""
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=shard, args=(rank, str(tmp_path))) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    backbone = ('backbone.stages', 'backbone.norm1')
    expected = {n: list(value) for n, value in EXPECTED.items() if n.startswith(backbone)}
    for rank in ('0', '1'):
        assert json.loads((tmp_path / rank).read_text()) == expected


def test_compiled_backbone():
    model = build(detector_cfg(), 'mmdet')
    model.backbone.stages[1] = torch.compile(model.backbone.stages[1])
    names = {
        n.replace('._orig_mod', ''): value for n, value in settings(model, wrap(model)).items()
    }
    assert names == EXPECTED


FOREIGN = {
    'vit': (
        dict(
            type='VisionTransformer',
            arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=8),
            img_size=32,
            out_type='featmap',
        ),
        {  # 3 layers: stem 0, layers 1 to 3, the rest 4
            'backbone.cls_token': (1 / 16, 1),
            'backbone.pos_embed': (1 / 16, 1),
            'backbone.patch_embed.projection.weight': (1 / 16, 1),
            'backbone.patch_embed.projection.bias': (1 / 16, 0),
            'backbone.layers.0.ln1.weight': (1 / 8, 0),
            'backbone.layers.1.attn.qkv.weight': (1 / 4, 1),
            'backbone.layers.2.ffn.layers.1.bias': (1 / 2, 0),
            'backbone.ln1.weight': (1, 0),
        },
    ),
    'convnext': (
        dict(
            type='ConvNeXt',
            arch=dict(depths=[1, 1, 6, 1], channels=[8, 8, 8, 8]),
            out_indices=(0, 1, 2, 3),
        ),
        {  # its own grouping: 8 layers
            'backbone.downsample_layers.0.0.weight': (1 / 128, 1),
            'backbone.stages.0.0.depthwise_conv.weight': (1 / 64, 1),
            'backbone.stages.2.0.gamma': (1 / 16, 0),
            'backbone.stages.2.5.pointwise_conv1.weight': (1 / 8, 1),
            'backbone.stages.3.0.pointwise_conv2.bias': (1 / 2, 0),
            'backbone.norm3.weight': (1, 0),
        },
    ),
}


@pytest.mark.parametrize('name', FOREIGN)
def test_a_foreign_backbone_inside_detector_and_classifier(name):
    cfg, expected = FOREIGN[name]
    expected = {key: (LR * lr, DECAY * decay) for key, (lr, decay) in expected.items()}
    import_module('mmpretrain.models')
    whole = detector_cfg()
    whole['backbone'] = dict(cfg, type=f'mmpretrain.{cfg["type"]}')
    classifier = dict(
        type='ImageClassifier',
        backbone=cfg,
        head=dict(type='LinearClsHead', num_classes=2, in_channels=8),
    )
    for model in (build(whole, 'mmdet'), build(classifier, 'mmpretrain')):
        given = settings(model, wrap(model))
        assert {key: given[key] for key in expected} == expected
        assert set(given) == {n for n, p in model.named_parameters() if p.requires_grad}
        heads = {n: lr for n, (lr, _) in given.items() if not n.startswith('backbone.')}
        assert heads and set(heads.values()) == {LR}


@pytest.mark.parametrize(
    ('config', 'scope', 'layers'),
    [
        ('upernet_pyramid-weightformer-micro_shapes.py', 'mmseg', 14),
        ('upernet_weightformer-micro_sfp_shapes.py', 'mmseg', 8),
        ('pyramid-weightformer-micro_shapes.py', 'mmpretrain', 14),
    ],
)
def test_segmentor_and_classifier(config, scope, layers):
    model = build(shapes_model(config), scope)
    given = settings(model, wrap(model))
    assert set(given) == set(dict(model.named_parameters()))
    rates = {name: lr for name, (lr, _) in given.items()}
    stem = {lr for n, lr in rates.items() if 'patch_embed' in n or 'stages.0.downsample' in n}
    assert stem == {LR * RATE ** (layers - 1)}
    assert {lr for name, lr in rates.items() if not name.startswith('backbone.')} == {LR}
    assert {lr for lr, _ in given.values()} == {LR * RATE**power for power in range(layers)}
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1}
    assert {name for name, (_, decay) in given.items() if decay == DECAY} == matrices


def test_a_bare_backbone():
    model = build(detector_cfg()['backbone'], 'mmdet')
    expected = {
        name[len('backbone.') :]: value
        for name, value in EXPECTED.items()
        if name.startswith('backbone.')
    }
    assert settings(model, wrap(model)) == expected


def test_a_backbone_that_does_not_know_its_layers_is_refused():
    cfg = detector_cfg()
    cfg['backbone'] = dict(type='ResNet', depth=18, out_indices=(0, 1))
    cfg['neck']['in_channels'] = [64, 128]
    with pytest.raises(ValueError, match=r'backbone ResNet has no get_layer_depth\(name\); use a'):
        wrap(build(cfg, 'mmdet'))


def test_a_model_without_a_backbone_is_refused():
    with pytest.raises(ValueError, match='Sequential has neither a backbone nor get_layer_depth'):
        wrap(nn.Sequential(nn.Linear(2, 2)))


def test_a_wrong_depth_is_refused():
    class Wrong(nn.Linear):
        def get_layer_depth(self, name: str) -> tuple[int, int]:
            return 2, 2

    with pytest.raises(ValueError, match=r"get_layer_depth\('weight'\) of Wrong gave depth 2 of 2"):
        wrap(Fixed(Wrong(2, 2)))


@pytest.mark.parametrize(
    ('paramwise', 'optimizer', 'expected'),
    [
        (dict(decay_rate=0.9), {}, 'unknown decay_rate; choose from layer_decay_rate, custom_keys'),
        (dict(layer_decay_rate=1.5), {}, 'above 0 and at most 1, got 1.5'),
        (dict(layer_decay_rate=0), {}, 'above 0 and at most 1, got 0'),
        ({}, {}, 'above 0 and at most 1, got None'),
        (dict(layer_decay_rate=0.9, custom_keys={'a': dict(lr=1)}), {}, r"custom_keys\['a'\]"),
        (dict(layer_decay_rate=0.9, custom_keys={'a': 1}), {}, r"\['a'\] to be a dict, got 1"),
        (dict(layer_decay_rate=0.9), dict(weight_decay=None), 'needs lr and weight_decay'),
        (dict(layer_decay_rate=0.9), dict(lr=None), 'needs lr and weight_decay'),
    ],
)
def test_wrong_options(paramwise, optimizer, expected):
    optimizer = {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.5, **optimizer}
    with pytest.raises(ValueError, match=expected):
        build_optim_wrapper(
            nn.Linear(1, 1),
            dict(constructor=CONSTRUCTOR, optimizer=optimizer, paramwise_cfg=paramwise),
        )


class Toy(Fixed):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=sum(output.square().mean() for output in self.backbone(inputs)))


class Noise(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(3, 32, 32, generator=generator))


def runner(work_dir: Path, iterations: int, **options) -> Runner:
    backbone = dict(detector_cfg()['backbone'], out_indices=(1,))
    with DefaultScope.overwrite_default_scope('mmengine'):
        model = Toy(MODELS.build(backbone))
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Noise(),
            batch_size=2,
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
        optim_wrapper=dict(
            type='OptimWrapper',
            constructor=CONSTRUCTOR,
            optimizer=dict(type='SGD', lr=LR, weight_decay=DECAY),
            paramwise_cfg=dict(layer_decay_rate=RATE),
        ),
        param_scheduler=dict(type='LinearLR', by_epoch=False, start_factor=0.25, end=3),
        auto_scale_lr=dict(enable=True, base_batch_size=1),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False)),
        experiment_name=f'decay_{work_dir.name}_{iterations}',
        randomness=dict(seed=0),
        **options,
    )


def test_a_run_with_scheduler_scaled_rate_and_resume(tmp_path):
    first = runner(tmp_path, 1)
    before, gradients = {}, {}
    for name, parameter in first.model.named_parameters():
        before[name] = parameter.detach().clone()
        parameter.register_hook(functools.partial(gradients.__setitem__, name))
    first.train()
    expected = {name: EXPECTED[name] for name in before}

    def times(factor: float) -> dict[str, tuple[float, float]]:
        return {name: (lr * factor, decay) for name, (lr, decay) in expected.items()}

    # a batch of twice the base batch; the scheduler begins at 1/4 and reaches 1 after two steps
    assert settings(first.model, first.optim_wrapper) == times(2 * 0.625)
    for name, (lr, decay) in times(2 * 0.25).items():  # a step of SGD
        step = lr * (gradients[name] + decay * before[name])
        after = first.model.get_parameter(name).detach()
        torch.testing.assert_close(before[name] - after, step, rtol=1e-4, atol=1e-6)
    second = runner(tmp_path, 2, resume=True, load_from=str(tmp_path / 'iter_1.pth'))
    second.train()
    assert second.iter == 2
    assert settings(second.model, second.optim_wrapper) == times(2)
