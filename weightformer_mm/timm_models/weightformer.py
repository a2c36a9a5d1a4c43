"""timm's entry points: ``weightformer_{arch}`` and ``pyramid_weightformer_{arch}`` for each named arch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    resolve_pretrained_cfg,
)
from torch import nn

from ..backbones import PyramidWeightFormer, WeightFormer
from ..backbones.base import DynamicBackbone
from .classifier import ImageClassifier
from .features import FeatureMaps
from .weights import load_pretrained

__all__: list[str] = []  # register_model adds the entry points

_NETWORKS = {
    'weightformer': WeightFormer,
    'pyramid_weightformer': PyramidWeightFormer,
}
_RELEASED = {
    'weightformer_tiny': dict(hf_hub_id='RuizeHe/weightformer-t'),
    'weightformer_small': dict(hf_hub_id='RuizeHe/weightformer-s'),
    'weightformer_base': dict(hf_hub_id='RuizeHe/weightformer-b', input_size=(3, 448, 448)),
}
_ARCHS = {
    f'{prefix}_{arch}': (network, arch, f'backbone.{network.first_conv}')
    for prefix, network in _NETWORKS.items()
    for arch in network.arch_settings
}
MODEL_NAMES = tuple(_ARCHS)


def _map_size(network: type[DynamicBackbone], name: str) -> tuple[int, int]:
    side = _RELEASED.get(name, {}).get('input_size', (3, 224, 224))[-1]
    return to_2tuple(side // (16 if network is WeightFormer else 32))


# mean and std are timm's defaults, those of ImageNet: the released training used them, although the
# released model card says 0.5.
default_cfgs = generate_default_cfgs(
    {
        f'{name}.{"in1k" if name in _RELEASED else "untrained"}': dict(
            classifier='head',
            first_conv=first_conv,
            pool_size=_map_size(network, name),  # of a map at the size of training
            paper_ids='arXiv:2605.01711',
            **_RELEASED.get(name, {}),
        )
        for name, (network, _, first_conv) in _ARCHS.items()
    }
)


def _entry_point(name: str, network: type[DynamicBackbone], arch: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, img_size: Any = None, **options: Any) -> nn.Module:
        options.setdefault('arch', arch)
        config = resolve_pretrained_cfg(
            name, options.pop('pretrained_cfg', None), options.pop('pretrained_cfg_overlay', None)
        ).to_dict()
        if img_size is not None:
            size = to_2tuple(img_size)
            if len(size) != 2:
                raise ValueError(f'expected img_size to be one number or two, got {img_size}')
            config['input_size'] = (config['input_size'][0], *size)
        if options.get('features_only'):
            # a head would be checked against the weights only to be thrown away
            options['num_classes'] = 0
        # None lets `FeatureMaps` choose; timm's own classes need a number
        feature_cfg = dict(
            out_indices=4 if 'feature_cls' in options else None, feature_cls=FeatureMaps
        )
        if 'hook' in str(options.get('feature_cls')).lower():
            feature_cfg['output_fmt'] = 'NHWC'  # as the modules pass them on
        cache_dir = options.pop('cache_dir', None)

        def build(device: Any = None, dtype: Any = None, **arguments: Any) -> ImageClassifier:
            with nullcontext() if device is None else torch.device(device):
                model = ImageClassifier(network, **arguments).to(dtype)
            if pretrained:
                load_pretrained(model, config, cache_dir)
            return model

        return build_model_with_cfg(
            build,
            name,
            pretrained=False,  # timm itself loads nothing
            pretrained_cfg=config,
            feature_cfg=feature_cfg,
            **options,
        )

    create.__name__ = create.__qualname__ = name
    create.__doc__ = (
        f'`{network.__name__}` {arch} with a classification head. Options: those of `ImageClassifier`, '
        "``features_only`` and ``out_indices``; ``img_size``, in pixels, is for timm's data pipelines alone."
    )
    return create


for _name, (_network, _arch, _) in _ARCHS.items():
    globals()[_name] = register_model(_entry_point(_name, _network, _arch))
