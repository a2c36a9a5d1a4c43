"""Weights from a hub into detectors and segmentors through ``tools/train.py``, and every way to fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.helpers import golden
from tests.helpers.commands import DETECTION, ROOT, SEGMENTATION, Result, Tools, options
from tests.helpers.hub_server import serve
from tests.helpers.pickles import Call
from weightformer_mm.backbones import WeightFormer
from weightformer_mm.checkpoints import convert_released

BASE = ROOT / 'configs/_base_'
OWNER = 'owner'
FILES = {'.safetensors': '', '.pth': '@v1/checkpoint.pth'}

DETECTOR = """
_base_ = ['{base}/models/mask-rcnn_fpn.py', '{base}/models/released.py',
          '{base}/datasets/shapes_detection.py', '{base}/schedules/shapes.py']
model = dict(
    backbone=_base_.weightformer_tiny,
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', in_channels={width}, out_channels=16, num_outs=5),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=6),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16, num_classes=6)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=20), rcnn=dict(sampler=dict(num=16))))
"""
SEGMENTOR = """
_base_ = ['{base}/segmentation.py', '{base}/models/upernet.py', '{base}/models/released.py',
          '{base}/datasets/shapes_segmentation.py', '{base}/schedules/shapes.py']
norm = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=None, size_divisor=32),
    backbone=_base_.weightformer_tiny,
    neck=dict(type='SimpleFeaturePyramid', in_channels={width}, out_channels=16, num_outs=4),
    decode_head=dict(in_channels=[16] * 4, channels=16, num_classes=7, norm_cfg=norm),
    auxiliary_head=dict(in_channels=16, channels=16, num_classes=7, norm_cfg=norm))
"""
STILL = """
train_dataloader = dict(dataset=dict(indices=2), batch_size=2, num_workers=0, persistent_workers=False)
default_hooks = dict(checkpoint=dict(save_optimizer=False))
"""
TASKS = {'Mask R-CNN': DETECTOR, 'UPerNet': SEGMENTOR}


def released(arch: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(map(ord, arch)))
    shapes = golden.released_shapes()[arch]['state_dict']
    return {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(weights: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.pth':
        torch.save({'model': {f'module.{n}': v for n, v in weights.items()}, 'epoch': 300}, path)
    else:
        safetensors.torch.save_file(weights, path)


class Hub:
    """Trains with weights of a hub on loopback."""

    def __init__(self, root: Path, run: Callable[..., Result], data: Path):
        self.root, self.run, self.data = root, run, data

    def train(self, task: str, arch: str, reference: str, folder: Path, by: str = 'init_cfg'):
        """Run ``tools/train.py``; gives the result and the weights it left, None if there are none."""
        config = folder / f'{by}.py'
        width = WeightFormer.arch_settings[arch]['embed_dims']
        config.write_text(TASKS[task].format(base=BASE, width=width) + STILL)
        changes = {'model__backbone__arch': arch, 'train_cfg__val_interval': 5}
        changes['optim_wrapper__optimizer__lr'] = 0.0  # the weights stay what they were
        if by == 'init_cfg':
            changes['model__backbone__init_cfg__checkpoint'] = reference
        else:
            changes.update(model__backbone__init_cfg=None, load_from=reference)
        like = DETECTION if task == 'Mask R-CNN' else SEGMENTATION
        settings = options(like, self.data, **changes)
        result = self.run('train', config, '--work-dir', folder / 'work', *settings)
        last = folder / 'work/epoch_1.pth'
        if not last.is_file():
            return result, None
        weights = torch.load(str(last), weights_only=True, mmap=True)['state_dict']
        return result, weights


@pytest.fixture(scope='module')
def hub(tmp_path_factory, shapes):
    root = tmp_path_factory.mktemp('hub')
    with serve(root / 'files') as address:
        env = {'HF_ENDPOINT': address, 'HF_HOME': str(root / 'cache'), 'HF_HUB_OFFLINE': '0'}
        yield Hub(root / 'files', Tools(root, env).run, shapes)


@pytest.mark.parametrize(
    ('arch', 'suffix', 'task'),
    [
        ('tiny', '.safetensors', 'Mask R-CNN'),
        ('tiny', '.pth', 'UPerNet'),
        ('small', '.pth', 'Mask R-CNN'),
        ('base', '.safetensors', 'UPerNet'),
    ],
)
def test_every_tensor_of_the_backbone_is_that_of_the_hub(hub, arch, suffix, task, tmp_path):
    weights = released(arch)
    repository = f'{OWNER}/weightformer-{arch[0]}'
    name = 'model.safetensors' if suffix == '.safetensors' else 'checkpoint.pth'
    if not (hub.root / repository / name).is_file():
        write(weights, hub.root / repository / name)
    by = 'load_from' if arch == 'tiny' else 'init_cfg'
    result, trained = hub.train(task, arch, f'hf://{repository}{FILES[suffix]}', tmp_path, by)
    out = result.ok()
    assert 'left out the classification head (head.bias, head.weight)' in out
    trained = {n[9:]: v for n, v in trained.items() if n.startswith('backbone.')}
    expected = convert_released(weights)
    assert trained.keys() == expected.keys() - {'head.weight', 'head.bias'}
    different = [name for name in trained if not torch.equal(trained[name], expected[name])]
    assert different == []
    (tmp_path / 'work/epoch_1.pth').unlink()


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _less(path: Path) -> None:
    weights = released('tiny')
    del weights['blocks.1.linear1.w1']
    write(weights, path)


FAILURES = {
    'truncated file': (_half, 'no readable checkpoint'),
    'HTML instead of weights': (
        lambda path: path.write_text('<!doctype html><title>Not here</title>'),
        'no readable checkpoint',
    ),
    'another arch': (
        lambda path: write(released('small'), path),
        'these are weights of small/base (embed_dims=384, depth=17), the model is tiny',
    ),
    'one key missing': (_less, 'missing: blocks.1.linear1.predictor.expand_in; unexpected: none'),
    'one key too many': (
        lambda path: write({**released('tiny'), 'extra': torch.ones(1)}, path),
        'missing: none; unexpected: extra; of another shape: none',
    ),
    'no such file': (lambda path: path.unlink(), 'not found'),
}


@pytest.mark.parametrize(('suffix', 'by'), [('.safetensors', 'init_cfg'), ('.pth', 'load_from')])
@pytest.mark.parametrize('failure', FAILURES)
def test_no_training_on_weights_that_did_not_load(hub, failure, suffix, by, tmp_path):
    damage, message = FAILURES[failure]
    path = tmp_path / f'weights{suffix}'
    write(released('tiny'), path)
    damage(path)
    result, trained = hub.train('UPerNet', 'tiny', str(path), tmp_path, by)
    assert message in result.error_line() and path.name in result.err
    assert trained is None and 'Epoch(train)' not in result.out


@pytest.mark.parametrize('by', ['init_cfg', 'load_from'])
def test_a_pickle_that_runs_code(hub, by, tmp_path):
    torch.save({'model': Call(os.mkdir, str(tmp_path / 'owned'))}, tmp_path / 'weights.pth')
    result, trained = hub.train('Mask R-CNN', 'tiny', str(tmp_path / 'weights.pth'), tmp_path, by)
    assert 'could run code from the file' in result.error_line()
    assert trained is None and not (tmp_path / 'owned').exists()


def test_revision_and_repository_that_do_not_exist(hub, tmp_path):
    write(released('tiny'), hub.root / f'{OWNER}/known/model.safetensors')
    result, trained = hub.train('UPerNet', 'tiny', f'hf://{OWNER}/known@v7', tmp_path)
    assert f'hf://{OWNER}/known@v7: {OWNER}/known has no revision v7' in result.error_line()
    assert trained is None
    result, trained = hub.train('UPerNet', 'tiny', f'hf://{OWNER}/unknown', tmp_path, 'load_from')
    assert f'no repository {OWNER}/unknown' in result.error_line()
    assert trained is None


IMPATIENT = """
import time

time.sleep = lambda seconds: None  # huggingface_hub tries six times, for half a minute
"""


@pytest.mark.parametrize('trouble', ['no network', 'offline', 'unreadable cache'])
def test_hub_out_of_reach(shapes, trouble, tmp_path):
    (tmp_path / 'file').write_text('not a folder')
    env = {'HF_ENDPOINT': 'http://127.0.0.1:9', 'HF_HOME': str(tmp_path / 'cache')}
    env['HF_HUB_OFFLINE'] = str(int(trouble == 'offline'))
    message = 'not in the cache, and the hub cannot be reached'
    if trouble == 'unreadable cache':
        env['HF_HOME'], message = str(tmp_path / 'file/cache'), 'cannot use the cache'
    (tmp_path / 'sitecustomize.py').write_text(IMPATIENT)
    env['PYTHONPATH'] = f'{tmp_path}{os.pathsep}{ROOT}'
    hub = Hub(tmp_path, Tools(tmp_path, env).run, shapes)
    result, trained = hub.train('UPerNet', 'tiny', 'hf://owner/name', tmp_path)
    assert message in result.error_line()
    assert trained is None and 'Epoch(train)' not in result.out


LOAD_FROM = """
_base_ = '{base}'
load_from = dict(checkpoint='{checkpoint}', allow_missing=['decode_head.conv_seg.*'])
"""


@pytest.mark.parametrize('form', ['config', 'options'])
def test_load_from_with_what_may_differ(tools, segmentation, form, tmp_path):
    """The form that documentation and error show, in a config that inherits and on the command line."""
    classes = {'model__decode_head__out_channels': 9, 'model__decode_head__num_classes': 9}
    settings = segmentation.options(train_cfg__val_interval=5, check_classes=False, **classes)
    config = SEGMENTATION
    if form == 'config':
        config = tmp_path / 'config.py'
        text = LOAD_FROM.format(base=SEGMENTATION, checkpoint=segmentation.checkpoint)
        config.write_text(text)
    else:
        settings += [f'load_from.checkpoint={segmentation.checkpoint}']
        settings += ['load_from.allow_missing=decode_head.conv_seg.*']
    result = tools.run('train', config, '--work-dir', tmp_path / 'work', *settings)
    assert 'as allowed, not taken from it: decode_head.conv_seg.weight' in result.ok()


def test_resume_of_a_config_with_a_dict_in_load_from(tools, segmentation, tmp_path):
    config = tmp_path / 'config.py'
    text = LOAD_FROM.format(base=SEGMENTATION, checkpoint=segmentation.checkpoint)
    config.write_text(text + 'resume = True\n')
    more = segmentation.options(train_cfg__max_epochs=2)
    result = tools.run('train', config, '--work-dir', tmp_path / 'work', *more)
    assert f'Continuing from {segmentation.checkpoint}' in result.ok()
