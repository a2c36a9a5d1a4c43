"""The names of the released classification weights, and how they map to this package's names and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..layers.pattern import is_dynamic
from .match import some

HEAD = ('head.weight', 'head.bias')
_SHOWN = 20  # names that an error lists in each group
_KINDS = ('weight', 'bias')
# released name → ours, in a dynamic block; all other names are the same in both
_RENAMED = {
    'linear1.w': 'linear1.weight',
    'linear1.b': 'linear1.bias',
    'linear1.wfm.weight': 'linear1.predictor.reduce.weight',
    'linear1.wfm.bias': 'linear1.predictor.reduce.bias',
    'linear1.w1': 'linear1.predictor.expand_in',
    'linear1.w2': 'linear1.predictor.expand_out',
    'dwc.w': 'dwc.weight',
    'dwc.b': 'dwc.bias',
    'dwc.wfm.0.weight': 'dwc.predictor.0.weight',
    'dwc.wfm.0.bias': 'dwc.predictor.0.bias',
    'dwc.wfm.2.weight': 'dwc.predictor.2.weight',
}


def released_names(depth: int, head: bool = True) -> dict[str, str]:
    """Released name → name in `WeightFormer`, for a network of ``depth`` blocks.

    The final ``norm`` becomes the norm of the last block's output, ``norm{depth - 1}``.
    """
    names = {f'norm.{kind}': f'norm{depth - 1}.{kind}' for kind in _KINDS}
    same = [f'{layer}.{kind}' for layer in ('patch_embed.proj', 'init_norm') for kind in _KINDS]
    for index in range(depth):
        block = f'blocks.{index}'
        if is_dynamic(index):
            layers = ['norm1', 'norm2', 'linear2']
            names.update({f'{block}.{old}': f'{block}.{new}' for old, new in _RENAMED.items()})
        else:
            layers = ['norm2', 'linear1', 'dwc', 'linear2']
        same += [f'{block}.{layer}.{kind}' for layer in layers for kind in _KINDS]
    same += HEAD if head else ()
    return {**names, **{name: name for name in same}}


def convert_released(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a released WeightFormer classifier's weights the names of ``WeightFormer(out_indices=-1)``.

    The classification head stays under ``head.``; it may be absent. The weights' names tell the depth.

    Args:
        state_dict: the released weights, as in the hub's safetensors files.

    Raises:
        ValueError: names are unknown or missing; the message lists them.
    """
    names = released_names(_depth(state_dict), head=any(name in state_dict for name in HEAD))
    return _translate(state_dict, names, 'these are not released WeightFormer weights')


def rename_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Like `convert_released`, but unknown names and other weights stay unchanged; nothing is refused.

    Released weights are recognised by the final ``norm`` or by the short names of dynamic layers. This
    package's networks have neither.
    """
    in_block = {re.sub(r'^blocks\.\d+\.', '', name) for name in weights}
    is_released = _RENAMED.keys() & in_block or 'norm.weight' in weights or 'norm.bias' in weights
    names = released_names(_depth(weights)) if is_released else {}
    return {names.get(name, name): tensor for name, tensor in weights.items()}


def rename_ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `convert_released`, for a `WeightFormer` without a head; raises the same ValueError."""
    names = {new: old for old, new in released_names(_depth(weights), head=False).items()}
    problem = 'the released names are for a WeightFormer with one output norm'
    return _translate(weights, names, problem)


def _translate(
    weights: Mapping[str, Tensor], names: Mapping[str, str], problem: str
) -> dict[str, Tensor]:
    unknown, missing = sorted(set(weights) - set(names)), sorted(set(names) - set(weights))
    if unknown or missing:
        raise ValueError(
            f'{problem}; unknown names: {some(unknown, _SHOWN)}; missing names: {some(missing, _SHOWN)}'
        )
    return {names[name]: tensor for name, tensor in weights.items()}


def _depth(names: Iterable[str]) -> int:
    """The number of the last block plus 1; 0 if there is no block."""
    blocks = (re.match(r'blocks\.(\d+)\.', name) for name in names)
    return max((int(match[1]) + 1 for match in blocks if match), default=0)
