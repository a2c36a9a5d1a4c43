"""Pretrained weights for timm's loader, which itself is lenient as soon as the number of classes differs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..backbones.base import DynamicBackbone
from ..checkpoints.released import rename_released
from ..engine.errors import UserError
from .classifier import ImageClassifier

_HEAD = ('head.weight', 'head.bias')
_RGB = 3  # timm adapts the first convolution from so many channels to any number


def match_weights(state_dict: Mapping[str, Tensor], model: ImageClassifier) -> dict[str, Tensor]:
    """The weights under the model's names, all of them and no others; timm's ``pretrained_filter_fn``.

    Args:
        state_dict: released weights, or those of a classifier of this package, or of a backbone alone.
        model: just built, with the ``pretrained_cfg`` of these weights. Where its number of classes is
            another one, there is no head in what is returned.

    Raises:
        UserError: a weight is missing, unexpected or of another shape; lists all of them.
    """
    weights = rename_released(state_dict)
    if not any(name.startswith('backbone.') for name in weights):
        weights = {n if n.startswith('head.') else f'backbone.{n}': v for n, v in weights.items()}
    wanted = model.state_dict()
    if model.num_classes != model.pretrained_cfg['num_classes']:
        for name in _HEAD:
            weights.pop(name, None)
            wanted.pop(name, None)

    first_conv = f'{model.pretrained_cfg["first_conv"]}.weight'
    shapes = {name: {tensor.shape} for name, tensor in wanted.items()}
    out_channels, _, *kernel = wanted[first_conv].shape
    shapes[first_conv].add((out_channels, _RGB, *kernel))
    problems = {
        'missing': [name for name in wanted if name not in weights],
        'unexpected': [name for name in weights if name not in wanted],
        'of another shape': [
            f'{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}'
            for name, tensor in wanted.items()
            if name in weights and weights[name].shape not in shapes[name]
        ],
    }
    if any(problems.values()):
        listed = '; '.join(
            f'{kind}: {", ".join(names) or "none"}' for kind, names in problems.items()
        )
        raise UserError(f'{_source(model)}: {_cause(model.backbone, weights)}. Weights {listed}')
    return weights


def _source(model: ImageClassifier) -> str:
    """Where timm took the weights from, by its order of precedence."""
    config = model.pretrained_cfg
    if config.get('state_dict'):
        return 'the given state_dict'
    return str(config.get('file') or config.get('hf_hub_id') or config.get('url'))


def _cause(backbone: DynamicBackbone, weights: Mapping[str, Tensor]) -> str:
    theirs = backbone.describe_sizes(
        {n[len('backbone.') :]: v for n, v in weights.items() if n.startswith('backbone.')}
    )
    ours = backbone.describe_sizes(backbone.state_dict())
    if theirs is None:
        return f'these are not weights of a {type(backbone).__name__}'
    if theirs != ours:
        return f'these are weights of {theirs}, the model is {ours}'
    return 'the weights are incomplete, or of another version of the network'
