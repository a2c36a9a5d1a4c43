"""The entry points: ``weightformer_{arch}`` and ``pyramid_weightformer_{arch}`` for each arch of a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from ..backbones import PyramidWeightFormer, WeightFormer
from ..backbones.base import DynamicBackbone
from .classifier import ImageClassifier, as_pair
from .features import FeatureMaps
from .weights import Pretrained

__all__: list[str] = []  # register_model adds the entry points

_RELEASED = {
    'tiny': dict(hf_hub_id='RuizeHe/weightformer-t'),
    'small': dict(hf_hub_id='RuizeHe/weightformer-s'),
    'base': dict(hf_hub_id='RuizeHe/weightformer-b', input_size=(3, 448, 448)),
}
# mean and std are timm's defaults, those of ImageNet: the released training normalised with them, though
# the released model card says 0.5.
_COMMON = dict(classifier='head', paper_ids='arXiv:2605.01711')
_ARCHS = {
    f'{prefix}_{arch}': (network, arch)
    for prefix, network in (
        ('weightformer', WeightFormer),
        ('pyramid_weightformer', PyramidWeightFormer),
    )
    for arch in network.arch_settings
}
MODEL_NAMES = tuple(_ARCHS)

default_cfgs = generate_default_cfgs(
    {
        f'weightformer_{arch}.in1k': dict(
            _COMMON, first_conv='backbone.patch_embed.proj', **released
        )
        for arch, released in _RELEASED.items()
    }
    | {
        f'pyramid_weightformer_{arch}.untrained': dict(
            _COMMON, first_conv='backbone.stages.0.downsample.conv1'
        )
        for arch in PyramidWeightFormer.arch_settings
    }
)


def _build(
    name: str, network: type[DynamicBackbone], pretrained: bool, **options: Any
) -> nn.Module:
    if options.get('features_only'):
        # a head would only be checked against the weights and then thrown away
        options['num_classes'] = 0
    read = Pretrained(name, options) if pretrained else None
    model = build_model_with_cfg(
        partial(ImageClassifier, network),
        name,
        pretrained,
        # None is for `FeatureMaps` to choose; timm's own classes want a number
        feature_cfg=dict(
            out_indices=4 if 'feature_cls' in options else None, feature_cls=FeatureMaps
        ),
        pretrained_filter_fn=read and read.filter,
        **(read.options(options) if read else options),
    )
    if read:
        read.restore(model)
    if options.get('img_size') is not None:
        channels = model.pretrained_cfg['input_size'][0]
        size = as_pair(options['img_size'])
        model.pretrained_cfg = dict(model.pretrained_cfg, input_size=(channels, *size))
        model.default_cfg = model.pretrained_cfg
    return model


def _entry_point(name: str, network: type[DynamicBackbone], arch: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        return _build(name, network, pretrained, **dict(dict(arch=arch), **options))

    create.__name__ = create.__qualname__ = name
    create.__doc__ = (
        f'`{network.__name__}` {arch} with a classification head. Options: those of `ImageClassifier`, '
        '``features_only`` and ``out_indices``.'
    )
    return create


for _name, _arguments in _ARCHS.items():
    globals()[_name] = register_model(_entry_point(_name, *_arguments))
