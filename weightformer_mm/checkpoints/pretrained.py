"""Pretrained weights into a backbone: names recognised, and nothing left out in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import UserError
from .check import get_state_dict
from .differences import Differences, compare, usable
from .released import rename_released
from .sources import load_weights

CONTAINERS = ('state_dict', 'model')
PREFIX = 'backbone.'
_HEAD = 'head.'
_PREDICTOR = '.predictor.'
SHOWN = 20  # names of a kind that an error lists


def load_pretrained(
    backbone: nn.Module,
    checkpoint: str,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
    prefix: str = PREFIX,
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
        allow_missing: shell patterns of the backbone's names that may keep their initial values, such as
            ``'norm3.*'``.
        allow_unexpected: shell patterns of the checkpoint's names that may be left out.
        prefix: where the backbone stands in a whole model.
        map_location: as mmengine's ``Pretrained`` has it; the weights are copied to where the backbone is.

    Raises:
        UserError: the checkpoint cannot be had or read, or its weights are not exactly those of the
            backbone; lists missing, unexpected and wrongly shaped ones and the likeliest cause.
    """
    weights = matching_weights(
        backbone,
        load_weights(checkpoint, map_location),
        checkpoint,
        allow_missing,
        allow_unexpected,
        prefix,
    )
    backbone.load_state_dict(weights, strict=False)


def matching_weights(
    backbone: nn.Module,
    checkpoint: Mapping[str, Any],
    source: str,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
    prefix: str = PREFIX,
) -> dict[str, Tensor]:
    """The weights for ``backbone`` in a checkpoint that was read, under the backbone's own names.

    Raises:
        UserError: as `load_pretrained`; ``source`` is what the message calls the checkpoint.
    """
    found = backbone_weights(checkpoint, source, prefix)
    if hasattr(backbone, 'describe_sizes'):
        found = rename_released(found)
    head = sorted(name for name in found if name.startswith(_HEAD))
    for name in head:
        del found[name]
    if head:
        print_log(f'{source}: left out the classification head ({", ".join(head)})', 'current')
    own = backbone.state_dict()
    differences = compare(own, found, allow_missing, allow_unexpected)
    if differences:
        cause = likeliest_cause(backbone, differences)
        remedy = _remedy(differences)
        raise UserError(f'{source}: {cause}. Weights {differences.listed(SHOWN)}{remedy}')
    weights = usable(own, found)
    log_left_out(source, own, found, weights)
    return weights


def log_left_out(
    source: str,
    wanted: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    taken: Mapping[str, Tensor],
) -> None:
    """Say in the log which weights keep their initial values and which ones are not used, as was allowed."""
    for what, names in (('not taken from it', wanted), ('left out', found)):
        listed = ', '.join(name for name in names if name not in taken)
        if listed:
            print_log(f'{source}: as allowed, {what}: {listed}', 'current')


def backbone_weights(
    checkpoint: Mapping[str, Any], source: str, prefix: str = PREFIX
) -> dict[str, Tensor]:
    """The weights under ``prefix`` in a checkpoint, or all where there are none.

    Raises:
        UserError: the checkpoint holds no weights.
    """
    weights = get_state_dict(checkpoint, source, CONTAINERS)
    prefix = prefix.rstrip('.') + '.'
    if any(name.startswith(prefix) for name in weights):
        weights = {
            n[len(prefix) :]: tensor for n, tensor in weights.items() if n.startswith(prefix)
        }
    return weights


def likeliest_cause(backbone: nn.Module, differences: Differences) -> str:
    """Why weights do not fit, most likely; names in ``differences`` are those of the backbone."""
    if differences.misfits:
        return 'the weights are damaged, or were cast'
    if not hasattr(backbone, 'describe_sizes'):
        return f'these are not the weights of this {type(backbone).__name__}'
    theirs, ours = map(backbone.describe_sizes, (differences.found, differences.wanted))
    if theirs is None:
        return f'these are not weights of a {type(backbone).__name__}'
    if theirs != ours:
        return f'these are weights of {theirs}, the model is {ours}'
    names = [*differences.missing, *differences.unexpected]
    predicting = _blocks(
        name for name in (*differences.wanted, *differences.found) if _PREDICTOR in name
    )
    if all(_PREDICTOR in name for name in names) and _blocks(names) == predicting != set():
        return 'these weights were trained with another dynamic_linear or dynamic_conv'
    if any('.attention.' in name or '.norm1.' in name for name in names):
        return 'these weights were trained with another token_mixer or dynamic_every'
    if names and _whole_norms(names):
        return 'these weights were trained with other out_indices'
    if not names and all(re.search(r'(proj|conv1)\.weight$', n) for n in differences.reshaped):
        return 'these weights were trained with another patch_size or in_channels'
    return 'the weights are incomplete, or of another version of the network'


def _blocks(names: Iterable[str]) -> set[str]:
    """The parts of names up to the number of the block."""
    matches = (re.match(r'.*blocks\.\d+', name) for name in names)
    return {match[0] for match in matches if match}


def _whole_norms(names: Sequence[str]) -> list[str]:
    """The output norms that ``names`` are made of, weight and bias each; none if anything else is there."""
    norms = {match[0] for match in (re.match(r'norm\d+', name) for name in names) if match}
    whole = {f'{norm}.{kind}' for norm in norms for kind in ('weight', 'bias')}
    return sorted(norms) if set(names) == whole else []


def _remedy(differences: Differences) -> str:
    """How to allow output norms that differ, if nothing else does."""
    if differences.reshaped or not _whole_norms([*differences.missing, *differences.unexpected]):
        return ''
    options = [
        f'{option}={[f"{norm}.*" for norm in _whole_norms(names)]}'
        for option, names in (
            ('allow_missing', differences.missing),
            ('allow_unexpected', differences.unexpected),
        )
        if names
    ]
    return f'. To begin with that difference: {", ".join(options)}'
