"""The names of the released classification weights, and their translation to this package's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..layers.pattern import is_dynamic

HEAD = ('head.weight', 'head.bias')
_STATIC_BLOCK = {
    f'{layer}.{kind}': f'{layer}.{kind}'
    for layer in ('norm2', 'linear1', 'dwc', 'linear2')
    for kind in ('weight', 'bias')
}
_DYNAMIC_BLOCK = {
    'norm1.weight': 'norm1.weight',
    'norm1.bias': 'norm1.bias',
    'norm2.weight': 'norm2.weight',
    'norm2.bias': 'norm2.bias',
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
    'linear2.weight': 'linear2.weight',
    'linear2.bias': 'linear2.bias',
}


def released_names(depth: int, head: bool = True) -> dict[str, str]:
    """Released name → name in `WeightFormer`, for a network of ``depth`` blocks.

    The final ``norm`` becomes the norm of the last block's output, ``norm{depth - 1}``.
    """
    names = {}
    for kind in ('weight', 'bias'):
        names[f'patch_embed.proj.{kind}'] = f'patch_embed.proj.{kind}'
        names[f'init_norm.{kind}'] = f'init_norm.{kind}'
        names[f'norm.{kind}'] = f'norm{depth - 1}.{kind}'
    for index in range(depth):
        block = _DYNAMIC_BLOCK if is_dynamic(index) else _STATIC_BLOCK
        names.update(
            {f'blocks.{index}.{old}': f'blocks.{index}.{new}' for old, new in block.items()}
        )
    if head:
        names.update({name: name for name in HEAD})
    return names


def rename_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the released names among ``weights``, if these are released weights; nothing is refused.

    Released weights are recognised by the final ``norm`` or by the short names of dynamic layers, neither
    of which this package's networks have.
    """
    ours = {new for block in (_STATIC_BLOCK, _DYNAMIC_BLOCK) for new in block.values()}
    short = {old for old in _DYNAMIC_BLOCK if old not in ours}
    in_block = {re.sub(r'^blocks\.\d+\.', '', name) for name in weights}
    if not (short & in_block or {'norm.weight', 'norm.bias'} & set(weights)):
        return dict(weights)
    names = released_names(_depth(weights))
    return {names.get(name, name): tensor for name, tensor in weights.items()}


def rename_ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the names of a `WeightFormer` backbone to the released ones; the inverse of the above.

    Raises:
        ValueError: a weight has no released name, or one that the released networks have is missing.
    """
    names = {new: old for old, new in released_names(_depth(weights), head=False).items()}
    unknown, missing = set(weights) - set(names), set(names) - set(weights)
    if unknown or missing:
        raise ValueError(
            f'no WeightFormer with one output norm, which is what the released names are for; without '
            f'released name: {_some(unknown)}; missing: {_some(missing)}'
        )
    return {names[name]: tensor for name, tensor in weights.items()}


def _some(names: Iterable[str], most: int = 5) -> str:
    names = sorted(names)
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '') or 'none'


def _depth(names: Iterable[str]) -> int:
    """The number of the last block and 1; 0 if there is none."""
    blocks = (re.match(r'blocks\.(\d+)\.', name) for name in names)
    return max((int(match[1]) + 1 for match in blocks if match), default=0)


def convert_released(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a released WeightFormer classifier to `WeightFormer`'s names.

    The classification head stays under ``head.``; it may be absent as a whole. Tensors are passed on, not
    copied. The depth is that of the last block there is.

    Args:
        state_dict: the released weights, as in the hub's safetensors files.

    Returns:
        The same tensors under the names of ``WeightFormer(out_indices=-1)``, in the same order.

    Raises:
        ValueError: if any name is unknown or missing; all of them are listed.
    """
    depth = _depth(state_dict)
    if not depth:
        raise ValueError(
            'these are not released WeightFormer weights: no name begins with "blocks.<number>."'
        )
    names = released_names(depth, head=any(name in state_dict for name in HEAD))
    unknown = sorted(set(state_dict) - set(names))
    missing = sorted(set(names) - set(state_dict))
    if unknown or missing:
        raise ValueError(
            'these are not released WeightFormer weights; '
            f'unknown names: {", ".join(unknown) or "none"}; missing names: {", ".join(missing) or "none"}'
        )
    return {names[name]: tensor for name, tensor in state_dict.items()}
