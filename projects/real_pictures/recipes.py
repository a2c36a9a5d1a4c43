"""What the ablations change: one element taken from a recipe, or one added, as functions of its config."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mmengine.config import Config

Change = Callable[[Config], None]

# Pixels of each class in CamVid's training part, in per cent, void left out.
CAMVID_SHARES = (17.5, 24.2, 1.0, 33.0, 4.7, 10.1, 1.2, 1.2, 6.1, 0.7, 0.3)
DROP_PATH_RATE = 0.1


def no_ema(cfg: Config) -> None:
    del cfg.default_hooks.ema


def adamw(cfg: Config) -> None:
    """AdamW with the learning rate that Muon's recipe gives the parameters that are not matrices."""
    muon = cfg.optim_wrapper.optimizer
    cfg.optim_wrapper.optimizer = dict(
        type='AdamW', lr=muon.lr * muon.fallback_lr_scale, weight_decay=muon.weight_decay
    )


def drop_path(cfg: Config) -> None:
    cfg.model.backbone.drop_path_rate = DROP_PATH_RATE


def published_init(cfg: Config) -> None:
    del cfg.model.backbone.init_cfg


def camvid_one_scale(cfg: Config) -> None:
    _replace(cfg, 'RandomResize', dict(type='Resize', scale=cfg.scale, keep_ratio=True))


def no_flip(cfg: Config) -> None:
    _replace(cfg, 'RandomFlip')


def no_colour(cfg: Config) -> None:
    _replace(cfg, 'PhotoMetricDistortion')


def class_weights(cfg: Config) -> None:
    """ENet's weights, 1 / log(1.02 + share of the pixels), here with a mean of one over the pixels."""
    shares = np.array(CAMVID_SHARES) / sum(CAMVID_SHARES)
    weights = 1 / np.log(1.02 + shares)
    weights = (weights / (weights * shares).sum()).round(3).tolist()
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.loss_decode.class_weight = weights


def ohem(cfg: Config) -> None:
    cfg.model.decode_head.sampler = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=40_000)


def nuclei_one_scale(cfg: Config) -> None:
    _replace(cfg, 'RandomChoice')


def no_turns(cfg: Config) -> None:
    _replace(cfg, 'RandomFlip')
    _replace(cfg, 'Rotate')


def no_inversion(cfg: Config) -> None:
    _replace(cfg, 'Invert')


def mosaic(cfg: Config) -> None:
    """In half of the images, four of them at once; the crop is taken from the whole of it."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    side = cfg.crop_size[0]
    pipeline.insert(2, dict(type='CachedMosaic', img_scale=(side, side), prob=0.5))


def copy_paste(cfg: Config) -> None:
    """Nuclei of another image of the batch's size over an image, before the colours change."""
    dataset = cfg.train_dataloader.dataset
    pipeline = dataset.pipeline
    cut = next(i for i, step in enumerate(pipeline) if step.type == 'FilterAnnotations')
    dataset.pipeline = pipeline[:cut]
    cfg.train_dataloader.dataset = dict(
        type='MultiImageMixDataset',
        dataset=dataset,
        pipeline=[dict(type='CopyPaste', max_num_pasted=30, selected=True), *pipeline[cut:]],
    )


def _replace(cfg: Config, kind: str, *steps: dict) -> None:
    """Replace the step of a kind in the training pipeline; without ``steps``, leave it out."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    index = next(i for i, step in enumerate(pipeline) if step.type == kind)
    pipeline[index : index + 1] = steps


# name → what it does to the recipe
ABLATIONS: dict[str, dict[str, Change]] = {
    'camvid': {
        'no-ema': no_ema,
        'one-scale': camvid_one_scale,
        'no-flip': no_flip,
        'no-colour': no_colour,
        'adamw': adamw,
        'published-init': published_init,
        'drop-path': drop_path,
        'class-weights': class_weights,
        'ohem': ohem,
    },
    'nuclei': {
        'no-ema': no_ema,
        'one-scale': nuclei_one_scale,
        'no-turns': no_turns,
        'no-colour': no_colour,
        'no-inversion': no_inversion,
        'adamw': adamw,
        'drop-path': drop_path,
        'mosaic': mosaic,
        'copy-paste': copy_paste,
    },
}
