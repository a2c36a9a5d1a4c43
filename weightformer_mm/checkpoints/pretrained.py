"""Pretrained weights into a backbone: names recognised, and nothing left out in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ..engine.checkpoint_check import get_state_dict
from ..engine.errors import UserError
from ..engine.weight_sources import load_weights
from .released import rename_released

_CONTAINERS = ('state_dict', 'model')
_HEAD = 'head.'


def load_pretrained(
    backbone: nn.Module,
    checkpoint: str,
    allow_missing: Sequence[str] = (),
    prefix: str = 'backbone.',
    map_location: Any = 'cpu',
) -> None:
    """Load weights into ``backbone``; all of them, or none and an error.

    Args:
        backbone: `WeightFormer` or `PyramidWeightFormer`.
        checkpoint: path of a ``.pth`` or ``.safetensors`` file, ``http(s)://`` or
            ``hf://owner/name[@revision][/file]``. It may hold released weights or ours, be a training
            checkpoint (weights under ``model`` or ``state_dict``, names with ``module.``), or a whole
            detector or segmentor, of which the ``backbone.`` part is taken. A classification head is left
            out, and the log says so.
        allow_missing: shell patterns of names that may keep their initial values, such as ``'norm5.*'``.
        prefix: where the backbone stands in a whole model.
        map_location: as mmengine's ``Pretrained`` has it; the weights are copied to where the backbone is.

    Raises:
        UserError: the checkpoint cannot be had or read, or its weights are not exactly those of the
            backbone; lists missing, unexpected and wrongly shaped ones and the likeliest cause.
    """
    weights = backbone_weights(load_weights(checkpoint, map_location), checkpoint, prefix)
    head = sorted(name for name in weights if name.startswith(_HEAD))
    for name in head:
        del weights[name]
    if head:
        print_log(f'{checkpoint}: left out the classification head ({", ".join(head)})', 'current')
    own = backbone.state_dict()
    absent = [name for name in own if name not in weights]
    missing = [n for n in absent if not any(fnmatchcase(n, pattern) for pattern in allow_missing)]
    problems = {
        'missing': missing,
        'unexpected': [name for name in weights if name not in own],
        'of another shape': [
            f'{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}'
            for name, tensor in own.items()
            if name in weights and weights[name].shape != tensor.shape
        ],
    }
    if any(problems.values()):
        listed = '; '.join(
            f'{kind}: {", ".join(names) or "none"}' for kind, names in problems.items()
        )
        raise UserError(
            f'{checkpoint}: {_likeliest_cause(backbone, weights, problems)}. Weights {listed}'
        )
    backbone.load_state_dict(weights, strict=not absent)
    if absent:
        print_log(f'{checkpoint}: as allowed, not in it: {", ".join(absent)}', 'current')


def backbone_weights(
    checkpoint: dict[str, Any], source: str, prefix: str = 'backbone.'
) -> dict[str, Tensor]:
    """The backbone's weights in a checkpoint, under this package's names.

    Raises:
        UserError: the checkpoint holds no weights.
    """
    weights = get_state_dict(checkpoint, source, _CONTAINERS)
    prefix = prefix.rstrip('.') + '.'
    if any(name.startswith(prefix) for name in weights):
        weights = {
            n[len(prefix) :]: tensor for n, tensor in weights.items() if n.startswith(prefix)
        }
    return rename_released(weights)


def _likeliest_cause(
    backbone: nn.Module, weights: Mapping[str, Tensor], problems: Mapping[str, Sequence[str]]
) -> str:
    theirs, ours = backbone.describe_sizes(weights), backbone.describe_sizes(backbone.state_dict())
    if theirs is None:
        return f'these are not weights of a {type(backbone).__name__}'
    if theirs != ours:
        return f'these are weights of {theirs}, the model is {ours}'
    names = [*problems['missing'], *problems['unexpected']]
    if names and all('.predictor.' in name for name in names):
        return 'these weights were trained with another dynamic_linear or dynamic_conv'
    if names and all(re.match(r'norm\d+\.', name) for name in names):
        return (
            'these weights were trained with other out_indices; norms that begin anew are allowed by '
            "allow_missing=['norm*']"
        )
    return 'the weights are incomplete, or of another version of the network'
