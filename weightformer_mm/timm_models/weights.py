"""Pretrained weights for timm's loader, which itself is lenient as soon as the number of classes differs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..checkpoints.differences import compare
from ..checkpoints.pretrained import PREFIX, SHOWN, likeliest_cause
from ..checkpoints.released import HEAD, rename_released
from ..engine.errors import UserError
from .classifier import ImageClassifier

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
    if not any(name.startswith(PREFIX) for name in weights):
        weights = {n if n.startswith('head.') else f'{PREFIX}{n}': v for n, v in weights.items()}
    wanted = model.state_dict()
    if model.num_classes != model.pretrained_cfg['num_classes']:
        for name in HEAD:
            weights.pop(name, None)
            wanted.pop(name, None)
    first_conv = f'{model.pretrained_cfg["first_conv"]}.weight'
    as_released = wanted[first_conv][:, :1].expand(-1, _RGB, -1, -1)
    if first_conv in weights and weights[first_conv].shape == as_released.shape:
        wanted[first_conv] = as_released
    differences = compare(wanted, weights)
    if differences:
        inner = {n[len(PREFIX) :]: v for n, v in weights.items() if n.startswith(PREFIX)}
        cause = likeliest_cause(model.backbone, compare(model.backbone.state_dict(), inner))
        raise UserError(f'{_source(model)}: {cause}. Weights {differences.listed(SHOWN)}')
    return weights


def _source(model: ImageClassifier) -> str:
    """Where timm took the weights from, by its order of precedence."""
    config = model.pretrained_cfg
    if config.get('state_dict'):
        return 'the given state_dict'
    return str(config.get('file') or config.get('hf_hub_id') or config.get('url'))
