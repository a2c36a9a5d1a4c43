"""What the ablations change: one element taken from a recipe, or one added, as functions of its config."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mmengine.config import Config, ConfigDict

from . import mixing

Change = Callable[[Config], None]

# added to the share of a class in CamVid's recipe, and by ENet
OFFSET, ENETS_OFFSET = 1.1, 1.02
DROP_PATH_RATE = 0.1


def no_ema(cfg: Config) -> None:
    del cfg.default_hooks.ema


def adamw(cfg: Config) -> None:
    """AdamW with the learning rate that the recipe gives the parameters that are not Muon's; not searched."""
    muon = cfg.optim_wrapper.optimizer
    cfg.optim_wrapper.optimizer = dict(
        type='AdamW', lr=muon.lr * muon.fallback_lr_scale, weight_decay=muon.weight_decay
    )


def drop_path(cfg: Config) -> None:
    cfg.model.backbone.drop_path_rate = DROP_PATH_RATE


def published_init(cfg: Config) -> None:
    del cfg.model.backbone.init_cfg


def whole_image(cfg: Config) -> None:
    """CamVid's images as they are, all of one size: no other scale and no crop."""
    _replace(cfg, 'RandomResize', dict(type='Resize', scale=cfg.scale, keep_ratio=True))
    _replace(cfg, 'RandomCrop')


def no_flip(cfg: Config) -> None:
    _replace(cfg, 'RandomFlip')


def no_colour(cfg: Config) -> None:
    _replace(cfg, 'PhotoMetricDistortion')


def no_class_weights(cfg: Config) -> None:
    for loss in _losses(cfg):
        del loss.class_weight


def enets_class_weights(cfg: Config) -> None:
    """As in the recipe, but with ENet's 1.02: ten times as much for the rarest class as for the commonest."""
    for loss in _losses(cfg):
        shares = np.exp(1 / np.array(loss.class_weight)) - OFFSET
        loss.class_weight = (1 / np.log(ENETS_OFFSET + shares)).round(2).tolist()


def _losses(cfg: Config) -> list[ConfigDict]:
    return [cfg.model[head].loss_decode for head in ('decode_head', 'auxiliary_head')]


def ohem(cfg: Config) -> None:
    """Pixels whose class has a probability below 0.7, at least a fifth of the image."""
    height, width = cfg.model.data_preprocessor.size
    # mmseg multiplies min_kept by the number of images
    cfg.model.decode_head.sampler = dict(
        type='OHEMPixelSampler', thresh=0.7, min_kept=height * width // 5
    )


def lovasz(cfg: Config) -> None:
    """Lovasz-Softmax beside cross-entropy in the decode head, as the whole recipe has it."""
    head = cfg.model.decode_head
    head.loss_decode = [head.loss_decode, dict(type='LovaszLoss', reduction='none')]


def one_scale(cfg: Config) -> None:
    _replace(cfg, 'RandomChoice')


def no_flips_or_turns(cfg: Config) -> None:
    _replace(cfg, 'RandomFlip')
    _replace(cfg, 'Rotate')


def no_inversion(cfg: Config) -> None:
    _replace(cfg, 'Invert')


def copy_paste(cfg: Config) -> None:
    """Up to 30 nuclei of another crop are put over a crop; what they hide by more than 2 pixels goes."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    cut = next(i for i, step in enumerate(pipeline) if step['type'] == 'FilterAnnotations')
    pipeline[cut].keep_empty = False  # an image without a nucleus would be mixed again, in vain
    paste = dict(
        type='CopyPasteWithinTheSet',
        max_num_pasted=30,
        bbox_occluded_thr=2,
        mask_occluded_thr=20,
    )
    cfg.custom_imports.imports.append(mixing.__name__)
    cfg.train_dataloader.dataset.pipeline = pipeline[:cut]
    cfg.train_dataloader.dataset = dict(
        type='MultiImageMixDataset',
        dataset=cfg.train_dataloader.dataset,
        pipeline=[paste, *pipeline[cut:]],
    )


def whole_images(cfg: Config) -> None:
    """Images of 256 to 1388 pixels as they are, in batches of mixed sizes, each computed at its own size."""
    for kind in ('RandomChoice', 'RandomCrop', 'Pad', 'Rotate', 'RandomCrop'):  # two crops
        _replace(cfg, kind)
    cfg.model.data_preprocessor.type = 'SizedDetDataPreprocessor'


def whole_images_padded(cfg: Config) -> None:
    """The same images, but the network sees the padding of a batch, as it does with mmdet's preprocessor."""
    whole_images(cfg)
    cfg.model.data_preprocessor.type = 'DetDataPreprocessor'


def _replace(cfg: Config, kind: str, *steps: dict) -> None:
    """Replace the step of a kind in the training pipeline; without ``steps``, leave it out."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    index = next(i for i, step in enumerate(pipeline) if step['type'] == kind)
    pipeline[index : index + 1] = steps


# name → what it does to the recipe
CHANGES: dict[str, dict[str, Change]] = {
    'camvid': {
        'no-ema': no_ema,
        'adamw': adamw,
        'published-init': published_init,
        'drop-path': drop_path,
        'whole-image': whole_image,
        'no-flip': no_flip,
        'no-colour': no_colour,
        'no-class-weights': no_class_weights,
        'enets-class-weights': enets_class_weights,
        'ohem': ohem,
        'lovasz': lovasz,
    },
    'nuclei': {
        'no-ema': no_ema,
        'adamw': adamw,
        'published-init': published_init,
        'drop-path': drop_path,
        'one-scale': one_scale,
        'no-flips-or-turns': no_flips_or_turns,
        'no-colour': no_colour,
        'no-inversion': no_inversion,
        'copy-paste': copy_paste,
        'whole-images': whole_images,
        'whole-images-padded': whole_images_padded,
    },
}
