"""What holds for the segmentation recipes alone; that each trains and predicts is tested elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from PIL import Image

from weightformer_mm.apis.complexity import for_counting
from weightformer_mm.utils.translate import require_libraries

CONFIGS = Path(__file__).parent.parent / 'configs'
FILES = sorted([*CONFIGS.glob('ade20k/*.py'), *CONFIGS.glob('cityscapes/*.py')])
# one of each head, network and crop
HEADS = [path for path in FILES if '-tiny_' in path.stem or '640x640' in path.stem]
MICRO = [32, 64, 128, 192]
WINDOW, LARGER = (64, 96), (81, 131)
IMAGES_OF = {'ade20k': 20210, 'cityscapes': 2975}


def each(files):
    return pytest.mark.parametrize('path', files, ids=lambda path: path.stem)


def small_model(cfg: Config) -> ConfigDict:
    """The config's model on a small backbone of its kind, with a narrow head and windows of 64x96 pixels."""
    model = cfg.model
    if model.decode_head.type == 'Mask2FormerHead':
        model.decode_head.pixel_decoder.encoder.num_layers = 1
        model.decode_head.transformer_decoder.num_layers = 1
    else:
        model.decode_head.channels = 64
    model.data_preprocessor.size = WINDOW
    model.test_cfg.update(crop_size=WINDOW, stride=(WINDOW[0] // 2, WINDOW[1] // 2))
    backbone = model.backbone
    if backbone.type == 'WeightFormer':
        backbone.update(arch=dict(embed_dims=32, depth=3), drop_path_rate=0.0)
        model.neck.in_channels = 32
        return model
    backbone.arch = 'micro'
    (model.neck if 'neck' in model else model.decode_head).in_channels = MICRO
    if 'auxiliary_head' in model:
        model.auxiliary_head.in_channels = MICRO[model.auxiliary_head.in_index]
    return model


def build(model_cfg: ConfigDict):
    require_libraries('mmseg')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(ConfigDict(for_counting(model_cfg.to_dict())))
    return revert_sync_batchnorm(model).eval()


def sample(height: int, width: int) -> dict:
    from mmseg.structures import SegDataSample

    shape = (height, width)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    meta = dict(img_shape=shape, ori_shape=shape, img_path='', flip=False, scale_factor=(1.0, 1.0))
    labels = PixelData(data=torch.zeros(1, *shape, dtype=torch.long))
    return {
        'inputs': [torch.from_numpy(pixels)],
        'data_samples': [SegDataSample(metainfo=meta, gt_sem_seg=labels)],
    }


@each(HEADS)
def test_windows_that_hold_the_image_give_what_the_whole_image_gives(path):
    model = build(small_model(Config.fromfile(path)))
    logits, labels = {}, {}
    for size in (WINDOW, LARGER):
        for mode in ('whole', 'slide'):
            model.test_cfg.mode = mode
            with torch.no_grad():
                (result,) = model.test_step(sample(*size))
            logits[size, mode], labels[size, mode] = (
                result.seg_logits.data,
                result.pred_sem_seg.data,
            )
            assert labels[size, mode].shape == (1, *size)
    assert torch.equal(labels[WINDOW, 'whole'], labels[WINDOW, 'slide'])
    torch.testing.assert_close(logits[WINDOW, 'whole'], logits[WINDOW, 'slide'])
    # several windows: the context of a pixel differs
    assert not torch.allclose(logits[LARGER, 'whole'], logits[LARGER, 'slide'])


@each(HEADS)
def test_test_time_augmentation_at_odd_sizes(path, tmp_path):
    cfg = Config.fromfile(path)
    shape = (45, 67)
    Image.fromarray(np.full((*shape, 3), 128, np.uint8)).save(tmp_path / 'image.png')
    Image.fromarray(np.ones(shape, np.uint8)).save(tmp_path / 'labels.png')
    load, augment = cfg.tta_pipeline
    for resize, ratio in zip(augment.transforms[0], cfg.tta_ratios):
        resize.scale = (int(ratio * 4 * shape[0]), int(ratio * shape[0]))
    require_libraries('mmseg')
    with DefaultScope.overwrite_default_scope('mmseg'):
        batch = Compose([load, augment])(
            dict(
                img_path=str(tmp_path / 'image.png'),
                seg_map_path=str(tmp_path / 'labels.png'),
                reduce_zero_label='ade20k' in path.parts,
                seg_fields=[],
            )
        )
    sizes = [tuple(image.shape[1:]) for image in batch['inputs']]
    assert len(sizes) == 12 and any(height % 2 and width % 2 for height, width in sizes)
    flips = [example.metainfo['flip'] for example in batch['data_samples']]
    assert sum(flips) == 6
    batch = {
        'inputs': [[image] for image in batch['inputs']],
        'data_samples': [[example] for example in batch['data_samples']],
    }
    model = build(ConfigDict(**cfg.tta_model, module=small_model(cfg)))
    with torch.no_grad():
        (result,) = model.test_step(batch)
    assert result.pred_sem_seg.data.shape[-2:] == shape
    assert result.gt_sem_seg.data.unique().tolist() == [0 if 'ade20k' in path.parts else 1]


@each(FILES)
def test_name_comment_and_numbers_agree(path):
    cfg, text = Config.fromfile(path), path.read_text()
    gpus, images, thousands, data, height, width = re.search(
        r'_(\d+)xb(\d+)-(\d+)k_(\w+)-(\d+)x(\d+)$', path.stem
    ).groups()
    iterations, batch, crop = (
        int(thousands) * 1000,
        int(gpus) * int(images),
        (int(height), int(width)),
    )
    assert data == path.parent.name
    assert cfg.train_cfg.max_iters == iterations == cfg.param_scheduler[-1].end
    assert cfg.train_dataloader.batch_size == int(images)
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.model.data_preprocessor.size == cfg.model.test_cfg.crop_size == crop
    (crops,) = (
        step.crop_size
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'RandomCrop'
    )
    assert tuple(crops) == crop
    assert cfg.test_dataloader.dataset.pipeline[1].scale == cfg.test_scale
    assert min(cfg.test_scale) == crop[0]
    ratios = {
        tuple(side / whole for side, whole in zip(resize.scale, cfg.test_scale))
        for resize in cfg.tta_pipeline[1].transforms[0]
    }
    assert ratios == {(ratio, ratio) for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)}
    assert cfg.model.test_cfg.mode == 'whole'
    if '_base_ = [' in text:  # the others inherit the comment
        epochs = iterations * batch / IMAGES_OF[data]
        assert f'= {epochs:.1f} epochs' in text


def test_mask2former_learns_as_published():
    """The backbone at a tenth of the rate; no weight decay of norms and embeddings."""
    cfg = Config.fromfile(next(CONFIGS.glob('ade20k/mask2former*')))
    model = build(cfg.model)
    wrapper = cfg.optim_wrapper
    groups = build_optim_wrapper(model, wrapper).optimizer.param_groups
    found = {id(group['params'][0]): group for group in groups}
    norms = {
        f'{name}.{part}'
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.LayerNorm, torch.nn.GroupNorm))
        for part in ('weight', 'bias')
    }
    assert any(name.startswith('backbone.stages.2.blocks.14.norm') for name in norms)
    for name, parameter in model.named_parameters():
        group = found[id(parameter)]
        assert group['lr'] == pytest.approx(1e-5 if name.startswith('backbone.') else 1e-4), name
        exempt = name in norms or any(
            part in name for part in ('query_embed', 'query_feat', 'level_embed')
        )
        assert group['weight_decay'] == (0.0 if exempt else 0.05), name
