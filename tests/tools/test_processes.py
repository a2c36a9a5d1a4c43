"""Training on two processes, with gloo, as torchrun starts them."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import socket
from collections import defaultdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode

from projects.miniatures import make_miniature
from tests.helpers import needs
from tests.helpers.commands import DETECTION, ROOT, SEGMENTATION, Result, Tools, options
from tests.helpers.reduced import reduced
from weightformer_mm.config.read import innermost_dataset

SHARDED = ROOT / 'configs/coco/mask-rcnn_pyramid-weightformer-base_fpn_fsdp-ms-crop-3x_coco.py'
ISOTROPIC = ROOT / 'configs/shapes/upernet_weightformer-micro_sfp_shapes.py'
HELPERS = Path(__file__).parents[1] / 'helpers'
STEPS = 3

# Two processes of one image each are to give what one process of two images gives. That is exact arithmetic
# where the loss of two images is the mean of their losses, each a sum over a number that is the same for
# every image, and where nothing is drawn at random in the model:
# - RPN: no anchor is ignored (one threshold) and none left out, so each image has its 769 anchors;
# - box head: every proposal stays (NMS at IoU 1, no limit) and is sampled, with the two objects 771;
# - mask head: it averages over the positives, which are the two objects alone (a proposal would have to meet
#   one at IoU 0.999); with different numbers of objects the means of two processes have other weights than
#   one mean over both, and DDP rightly gives another result;
# - segmentation: the mean is over all pixels, ignored ones too, of maps of one size.
# The images and their flips differ between the processes, so gradients that are not averaged would show.
# Rounding alone would show as well: of a million inputs of ReLUs a few are as small as it, and one whose sign
# it changes changes gradients by 1e-4. So the models compared have no ReLUs.
SCHEDULE = """
custom_imports = dict(imports=['weightformer_mm', 'smooth'])
model = dict(backbone=dict(drop_path_rate=0.0))
train_cfg = dict(max_epochs=1, val_interval=100)
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = None
"""
DETECTOR = """
everything = dict(num=5000, pos_fraction=0.5)
model = dict(
    rpn_head=dict(anchor_generator=dict(ratios=[1.0])),
    train_cfg=dict(
        rpn=dict(assigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.5), sampler=everything),
        rpn_proposal=dict(
            nms_pre=5000, max_per_img=5000, nms=dict(iou_threshold=1.0), min_bbox_size=-1
        ),
        rcnn=dict(
            assigner=dict(
                pos_iou_thr=0.999, neg_iou_thr=0.999, min_pos_iou=0.999, match_low_quality=False
            ),
            sampler=everything,
        ),
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
"""
SEGMENTOR = """
model = dict(
    decode_head=dict(dropout_ratio=0.0),
    auxiliary_head=dict(dropout_ratio=0.0),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
"""


@pytest.fixture(scope='module')
def images(shapes, tmp_path_factory) -> Path:
    """Shapes with six training images, of two objects each."""
    folder = Path(shutil.copytree(shapes, tmp_path_factory.mktemp('processes') / 'shapes'))
    file = folder / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    of_image = {image['id']: [] for image in content['images']}
    for annotation in content['annotations']:
        of_image[annotation['image_id']].append(annotation)
    chosen = [image for image in content['images'] if len(of_image[image['id']]) >= 2][: 2 * STEPS]
    assert len(chosen) == 2 * STEPS
    content['images'] = chosen
    content['annotations'] = [a for image in chosen for a in of_image[image['id']][:2]]
    file.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope='module')
def processes(tmp_path_factory):
    """Run ``train`` on one process or on several at the same time, and return what each of them said."""
    path = {'PYTHONPATH': os.pathsep.join([str(HELPERS), os.environ.get('PYTHONPATH', str(ROOT))])}
    tools = Tools(tmp_path_factory.mktemp('processes'), path)

    def run(number: int, *arguments: object) -> list[Result]:
        if number == 1:
            return [tools.run('train', *arguments)]
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        common = {
            'WORLD_SIZE': str(number),
            'MASTER_ADDR': '127.0.0.1',
            'MASTER_PORT': str(port),
        }
        ranks = [{'RANK': str(rank), 'LOCAL_RANK': str(rank)} for rank in range(number)]
        forks = [tools.start('train', *arguments, env={**common, **rank}) for rank in ranks]
        return [fork.wait() for fork in forks]

    return run


@pytest.fixture(scope='module')
def train(processes, images, tmp_path_factory):
    def run(number: int, base: Path, name: str, extra: str = '', parts: tuple = ()) -> Path:
        """The work folder of three steps with two images in all."""
        folder = tmp_path_factory.mktemp(name)
        bases = [str(base), *map(str, parts)]
        data = (
            f'train_dataloader = dict(batch_size={2 // number}, num_workers=0, persistent_workers=False, '
            f'dataset=dict(data_root={str(images) + "/"!r}, indices={2 * STEPS}, '
            'pipeline=train_pipeline))\n'
        )
        # each part in a file of its own: a config may set a name once
        (folder / 'schedule.py').write_text(f'_base_ = {bases}\n{SCHEDULE}')
        task = DETECTOR if base == DETECTION else SEGMENTOR
        (folder / 'task.py').write_text(f"_base_ = ['schedule.py']\n{task}{data}")
        (folder / 'config.py').write_text(f"_base_ = ['task.py']\n{extra}")
        launch = ['--launcher', 'pytorch'] if number > 1 else []
        arguments = (folder / 'config.py', '--work-dir', folder / 'work', *launch)
        results = processes(number, *arguments)
        (folder / 'log').write_text(''.join(result.ok() for result in results))
        return folder

    return run


def weights(
    folder: Path, name: str = 'work/epoch_1', iterations: int = STEPS
) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / f'{name}.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == iterations
    return checkpoint['state_dict']


@pytest.fixture(scope='module')
def alone(train):
    """The weights that one process comes to, per config."""
    known = {}

    def run(base: Path) -> dict[str, torch.Tensor]:
        if base not in known:
            known[base] = weights(train(1, base, 'alone'))
        return known[base]

    return run


def greatest_difference(expected: dict, found: dict) -> tuple[float, str]:
    """The greatest difference in a layer over the greatest value in it, and which layer that is.

    By layer, since biases that began at zero are still about as small as the rounding of their gradients.
    """
    assert expected.keys() == found.keys()
    sizes, differences = defaultdict(float), defaultdict(float)
    for name, weight in expected.items():
        layer = name.rpartition('.')[0]
        sizes[layer] = max(sizes[layer], float(weight.abs().max()))
        differences[layer] = max(differences[layer], float((found[name] - weight).abs().max()))
    return max((differences[layer] / sizes[layer], layer) for layer in sizes)


@pytest.mark.parametrize(
    ('base', 'backbone'),
    [
        (DETECTION, ''),
        (DETECTION, 'with_cp=True'),
        (SEGMENTATION, ''),
        (ISOTROPIC, 'memory_efficient=True'),
    ],
    ids=lambda value: getattr(value, 'stem', value),
)
def test_two_processes_equal_one_with_the_double_batch(train, alone, base, backbone):
    folder = train(2, base, 'pair', f'model = dict(backbone=dict({backbone}))')
    difference, layer = greatest_difference(alone(base), weights(folder))
    assert difference < 1e-5, layer
    assert 'find_unused_parameters=False' in (folder / 'log').read_text()


class Called(TorchDispatchMode):
    """Notes the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('base', [DETECTION, SEGMENTATION, ISOTROPIC], ids=lambda path: path.stem)
def test_models_compared_have_no_relu(base, images, monkeypatch):
    cfg = Config.fromfile(base)
    init_default_scope(cfg.default_scope)
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    innermost_dataset(loader).data_root = f'{images}/'
    model = MODELS.build(cfg.model)
    data = model.data_preprocessor(next(iter(Runner.build_dataloader(loader))), training=True)

    def operations() -> set[str]:
        with Called() as called:
            model(**data, mode='loss')
        return called.names

    relus = {'aten::relu', 'aten::relu_', 'aten::threshold'}
    assert operations() & relus
    monkeypatch.setattr(F, 'relu', F.relu)  # put back afterwards
    runpy.run_path(str(HELPERS / 'smooth.py'))
    assert not operations() & relus


def test_comparison_sees_what_one_image_changes(train, alone):
    """Half of the batch leads elsewhere: a gradient that is not averaged cannot pass for one that is."""
    half = weights(
        train(
            1,
            SEGMENTATION,
            'half',
            'train_dataloader = dict(batch_size=1, dataset=dict(indices=3))',
        )
    )
    assert greatest_difference(alone(SEGMENTATION), half)[0] > 1e-3


def test_sync_batch_norm_gives_way_to_batch_norm_on_the_cpu(train):
    norm = "norm_cfg = dict(_delete_=True, type='SyncBN', requires_grad=True)"
    heads = 'model = dict(decode_head=dict(norm_cfg=norm), auxiliary_head=dict(norm_cfg=norm))'
    # statistics of one pooled value would be none
    heads += '\ntrain_dataloader = dict(batch_size=2, dataset=dict(indices=8))'
    folder = train(2, SEGMENTATION, 'sync', f'{norm.replace("norm_cfg", "norm", 1)}\n{heads}')
    assert any(name.endswith('running_mean') for name in weights(folder, iterations=2))
    assert 'SyncBatchNorm works on GPUs only' in (folder / 'log').read_text()


@needs.sharding_on_cpu
def test_sharded_training_equals_one_process_and_leaves_a_whole_checkpoint(
    train, alone, processes, tools, images
):
    folder = train(2, SEGMENTATION, 'sharded', parts=[ROOT / 'configs/_base_/fsdp.py'])
    difference, layer = greatest_difference(alone(SEGMENTATION), weights(folder))
    assert difference < 1e-5, layer
    assert 'sharded in 5 units' in (folder / 'log').read_text()  # 4 blocks and the rest
    checkpoint = folder / 'work/epoch_1.pth'

    evaluated = tools.run('test', SEGMENTATION, checkpoint, *options(SEGMENTATION, images))
    assert re.search(r'mIoU: \d', evaluated.ok())

    # another epoch: on two processes again, and on one that shards nothing
    more = ('--cfg-options', 'train_cfg.max_epochs=2')
    arguments = ('--resume', checkpoint, '--work-dir', folder / 'on', *more)
    results = processes(2, folder / 'config.py', '--launcher', 'pytorch', *arguments)
    said = ''.join(result.ok() for result in results)
    assert f'resumed epoch: 1, iter: {STEPS}' in said
    single = ('runner_type=Runner', 'strategy=None', 'train_dataloader.batch_size=2')
    arguments = ('--resume', checkpoint, '--work-dir', folder / 'one', *more, *single)
    processes(1, folder / 'config.py', *arguments)[0].ok()
    on, one = (weights(folder, f'{name}/epoch_2', 2 * STEPS) for name in ('on', 'one'))
    difference, layer = greatest_difference(one, on)
    assert difference < 1e-5, layer


def reduced_recipe(path: Path, data: Path, folder: Path) -> Path:
    """A recipe of COCO on a small backbone, with two training steps of two processes, as a file."""
    cfg: Config = reduced(path, data, folder / 'work')
    cfg.model.backbone.arch, cfg.model.neck.in_channels = 'micro', [32, 64, 128, 192]
    cfg.train_dataloader.batch_size = 1
    innermost_dataset(cfg.train_dataloader).indices = 4
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    file = folder / path.name
    cfg.dump(file)
    return file


@needs.sharding_on_cpu
def test_the_sharded_recipe_takes_steps_and_one_process_evaluates_it(processes, tools, tmp_path):
    make_miniature('coco', tmp_path / 'coco', train=6, val=3, size=(96, 128), progress=False)
    config = reduced_recipe(SHARDED, tmp_path / 'coco', tmp_path)
    averaging = ('--cfg-options', 'default_hooks.ema.type=EMAHook')
    for result in processes(2, config, '--launcher', 'pytorch', *averaging):
        assert result.code == 2
        assert 'EMAHook cannot average the weights of a sharded model' in result.err
    log = ''.join(result.ok() for result in processes(2, config, '--launcher', 'pytorch'))
    assert 'sharded in 13 units' in log and 'a batch is computed with its padding' in log
    checkpoint = tmp_path / 'work/epoch_1.pth'
    assert torch.load(checkpoint, weights_only=True)['meta']['iter'] == 2
    evaluated = tools.run('test', config, checkpoint, '--work-dir', tmp_path / 'test')
    assert re.search(r'coco/segm_mAP: \S', evaluated.ok())
