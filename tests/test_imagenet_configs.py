"""configs/imagenet: the released recipe, number for number, and that every config runs."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from tests.helpers.uninitialised import Uninitialised
from weightformer_mm.datasets import render_sample
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError
from weightformer_mm.layers import DynamicDepthwiseConv2d, DynamicLinear

FOLDER = Path(__file__).parent.parent / 'configs/imagenet'
FILES = sorted(FOLDER.glob('*.py'))
TINY, BASE = (
    FOLDER / f'weightformer-{name}.py' for name in ('tiny_8xb128_in1k', 'base_8xb128_in1k-448px')
)
PYRAMID = FOLDER / 'pyramid-weightformer-tiny_8xb128_in1k.py'
every_config = pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)

# parameters in millions with the head (the published ones where published), and drop path
EXPECTED = {
    'weightformer-tiny_8xb128_in1k': (7.07, 0.0),
    'weightformer-small_8xb128_in1k': (27.49, 0.2),
    'weightformer-base_8xb128_in1k-448px': (27.49, 0.2),
    'pyramid-weightformer-tiny_8xb128_in1k': (27.61, 0.2),
    'pyramid-weightformer-small_8xb128_in1k': (50.80, 0.3),
    'pyramid-weightformer-base_8xb128_in1k': (85.09, 0.5),
}


@pytest.fixture(autouse=True, scope='module')
def mmpretrain_scope():
    for part in ('models', 'datasets', 'evaluation'):
        import_module(f'mmpretrain.{part}')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory) -> Path:
    """Four images of awkward sizes as ImageNet has them, with their classes in meta/."""
    root = tmp_path_factory.mktemp('imagenet')
    image = render_sample(0, 'val', 0, 512).image
    (root / 'meta').mkdir()
    sizes = {'train': [(333, 217), (217, 333)], 'val': [(301, 97), (65, 511)]}
    for split, shapes in sizes.items():
        (root / split).mkdir()
        for index, (height, width) in enumerate(shapes):
            cv2.imwrite(str(root / split / f'{index}.JPEG'), image[:height, :width])
        (root / f'meta/{split}.txt').write_text('0.JPEG 1\n1.JPEG 999\n')
    return root


def small_run(path: Path, imagenet: Path, work_dir: Path) -> Config:
    """The config with a small backbone, on two images a split."""
    cfg = Config.fromfile(path)
    cfg.work_dir = str(work_dir)
    pyramid = cfg.model.backbone.type == 'PyramidWeightFormer'
    cfg.model.backbone.arch = 'micro' if pyramid else dict(embed_dims=32, depth=3)
    cfg.model.head.in_channels = 192 if pyramid else 32
    # of two images a path may be dropped for both, and then nothing of it is learnt
    cfg.model.backbone.drop_path_rate = 0.0
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.num_workers, loader.persistent_workers, loader.batch_size = 0, False, 2
        loader.dataset.data_root = f'{imagenet}/'
    return cfg


def test_all_sizes_of_both_networks_are_there():
    assert {path.stem for path in FILES} == set(EXPECTED)


@every_config
def test_size_drop_path_and_outputs(path):
    parameters, drop_path = EXPECTED[path.stem]
    cfg = Config.fromfile(path)
    assert cfg.model.backbone.get('drop_path_rate', 0.0) == drop_path
    with torch.device('meta'):
        with Uninitialised():
            model = MODELS.build(cfg.model)
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(
            parameters, abs=0.01
        )
        # one output alone: no norm that gets no gradient
        (output,) = model.extract_feat(torch.randn(2, 3, 64, 96))
        assert model.head((output,)).shape == (2, 1000)
    assert model.backbone.out_channels == (cfg.model.head.in_channels,)


@every_config
def test_weight_decay_spares_biases_and_norms_alone(path):
    cfg = Config.fromfile(path)
    with torch.device('meta'), Uninitialised():
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper.optimizer) is torch.optim.AdamW
    decay = {
        id(p): group['weight_decay']
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }
    kinds = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            spared = name == 'bias' or isinstance(module, nn.LayerNorm)
            assert decay.pop(id(parameter)) == (0.0 if spared else 0.05), (type(module), name)
            kinds.add((type(module), name))
    assert not [group for group in decay if group in {id(p) for p in model.parameters()}]
    for kind in (DynamicLinear, DynamicDepthwiseConv2d):
        assert {(kind, 'weight'), (kind, 'bias')} <= kinds


@every_config
def test_the_recipe(path):
    cfg = Config.fromfile(path)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.optim_wrapper.optimizer.to_dict() == dict(type='AdamW', lr=1e-3, weight_decay=0.05)
    assert cfg.auto_scale_lr.to_dict() == dict(base_batch_size=1024, enable=True)
    assert cfg.train_dataloader.batch_size * 8 == 1024
    assert cfg.optim_wrapper.clip_grad.max_norm == 5.0
    loss = cfg.model.head.loss
    assert (loss.type, loss.label_smooth_val, loss.mode) == ('LabelSmoothLoss', 0.1, 'original')
    alphas = {augment.type: augment.alpha for augment in cfg.model.train_cfg.augments}
    assert alphas == {'Mixup': 0.8, 'CutMix': 1.0} and 'probs' not in cfg.model.train_cfg
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    randaugment, erasing = steps['RandAugment'], steps['RandomErasing']
    assert (randaugment.policies, randaugment.num_policies) == ('timm_increasing', 2)
    assert (randaugment.magnitude_level, randaugment.magnitude_std) == (9, 0.5)
    assert (randaugment.total_level, randaugment.hparams.interpolation) == (10, 'bicubic')
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    rgb_mean = cfg.model.data_preprocessor.mean
    assert erasing.fill_color == rgb_mean[::-1] == [103.53, 116.28, 123.675]
    assert randaugment.hparams.pad_val == [round(value) for value in rgb_mean[::-1]]
    assert erasing.fill_std == cfg.model.data_preprocessor.std[::-1]
    assert (
        cfg.val_evaluator.to_dict()
        == dict(type='Accuracy', topk=(1, 5))
        == cfg.test_evaluator.to_dict()
    )


@every_config
def test_pipelines_on_images_of_any_shape(path, imagenet):
    cfg = Config.fromfile(path)
    side = 448 if '448px' in path.stem else 224
    for split in ('train', 'val', 'test'):
        steps = cfg[f'{split}_dataloader'].dataset.pipeline
        bicubic = [step.interpolation for step in steps if 'interpolation' in step]
        assert bicubic == ['bicubic']
        folder = imagenet / ('train' if split == 'train' else 'val')
        for file in folder.iterdir():
            packed = Compose(steps)({'img_path': str(file), 'gt_label': 3})
            assert (
                packed['inputs'].shape == (3, side, side) and packed['inputs'].dtype == torch.uint8
            )
            assert packed['data_samples'].gt_label.tolist() == [3]
    # as in the release, a seventh or an eighth of the short side is cut off
    resize, crop = (cfg.test_dataloader.dataset.pipeline[index] for index in (1, 2))
    assert (resize.scale, crop.crop_size) == ((512, 448) if side == 448 else (256, 224))


@pytest.mark.filterwarnings('ignore:Detected call of .scheduler.step:UserWarning')
def test_the_learning_rate_follows_batch_and_schedule(imagenet, tmp_path):
    cfg = small_run(TINY, imagenet, tmp_path)  # one iteration an epoch, of a batch of 2
    runner = Runner.from_cfg(cfg)
    assert len(runner.train_loop.dataloader) == 1
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    schedulers = runner.build_param_scheduler(cfg.param_scheduler)
    rates = []
    for _ in range(300):
        rates.append({group['lr'] for group in runner.optim_wrapper.optimizer.param_groups})
        for scheduler in schedulers:
            scheduler.step()
    assert all(len(rate) == 1 for rate in rates)
    rates = np.array([rate.pop() for rate in rates])
    peak = 5e-4 * 2 / 512
    assert rates.argmax() in (19, 20) and rates.max() == pytest.approx(peak)
    assert (np.diff(rates[:20]) > 0).all() and (np.diff(rates[20:]) < 0).all()
    assert rates[0] == pytest.approx(peak / 1000)
    assert rates[-1] == pytest.approx(peak / 100, rel=0.01)
    assert rates[160] == pytest.approx((peak + peak / 100) / 2, rel=0.01)  # a cosine, half way


@pytest.mark.parametrize('path', [TINY, BASE, PYRAMID], ids=lambda path: path.stem)
def test_trains_a_step_and_evaluates(path, imagenet, tmp_path):
    cfg = small_run(path, imagenet, tmp_path)
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler = None  # warm-up would begin with a learning rate of nearly nothing
    cfg.default_hooks.logger.interval = 1
    runner = Runner.from_cfg(cfg)
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    runner.train()
    unchanged = [n for n, p in runner.model.named_parameters() if torch.equal(p, before[n])]
    assert not unchanged
    lines = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    logged = {name: value for line in lines for name, value in json.loads(line).items()}
    assert logged['lr'] == pytest.approx(1e-3 * 2 / 1024)
    assert 0 < logged['loss'] < 20
    assert {'accuracy/top1', 'accuracy/top5'} <= set(logged)


@pytest.mark.parametrize('index', [0, 1], ids=['mixup', 'cutmix'])
def test_loss_of_mixed_images(index, imagenet, tmp_path):
    cfg = small_run(PYRAMID, imagenet, tmp_path)
    cfg.model.train_cfg.augments = [cfg.model.train_cfg.augments[index]]
    model = MODELS.build(cfg.model)
    torch.manual_seed(0)
    np.random.seed(0)
    loader = Runner.build_dataloader(cfg.train_dataloader)
    data = model.data_preprocessor(next(iter(loader)), training=True)
    targets = torch.stack([sample.gt_score for sample in data['data_samples']])
    assert targets.shape == (2, 1000) and torch.allclose(targets.sum(1), torch.ones(2))
    assert set(targets.nonzero()[:, 1].tolist()) == {1, 999} and (targets.max(1).values < 1).any()
    losses = model(**data, mode='loss')
    scores = model(data['inputs']).log_softmax(1)
    smoothed = 0.9 * targets + 0.1 / 1000
    expected = -(smoothed * scores).sum(1).mean()
    torch.testing.assert_close(losses['loss'], expected)


@pytest.mark.parametrize(
    ('file', 'expected'),
    [
        ('train/n01440764/0.JPEG', r'subfolders \(1\) .* specified classes \(1000\)'),
        ('train/0.JPEG', r'subfolders \(0\) .* specified classes \(1000\)'),
        ('meta/train.txt', 'not enough values to unpack'),
    ],
    ids=['one class', 'no class', 'no label'],
)
def test_wrong_folders_are_the_users_to_put_right(file, expected, tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text('0.JPEG\n')
    loader = Config.fromfile(TINY).train_dataloader
    loader.dataset.data_root = str(tmp_path)
    with pytest.raises(UserError, match=f'data set ImageNet, {tmp_path}/?: .*{expected}'):
        CheckedRunner.build_dataloader(loader)
