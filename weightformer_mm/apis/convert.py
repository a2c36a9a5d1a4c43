"""Rewrite a checkpoint: with other names, in another format, as the backbone alone, or ready to publish."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..backbones import PyramidWeightFormer, WeightFormer
from ..checkpoints.match import CONTAINERS, get_state_dict
from ..checkpoints.pretrained import PREFIX
from ..checkpoints.released import HEAD, rename_ours, rename_released
from ..checkpoints.sources import load_weights
from ..errors import UserError
from ..utils.writing import refuse_replacing, written_whole

OURS, RELEASED = 'weightformer_mm', 'released'
SUFFIXES = ('.pth', '.safetensors')
_SHA_DIGITS = 8
# names of the head in the released classifiers and in mmpretrain's → the released names
_HEADS = {**{name: name for name in HEAD}, 'head.fc.weight': HEAD[0], 'head.fc.bias': HEAD[1]}


@dataclass(frozen=True)
class Conversion:
    """What to turn a checkpoint into: ``to`` says whose names the weights get, `OURS` or `RELEASED`.

    ``backbone_only`` keeps only the backbone's weights, without the prefix ``backbone.`` in their names.
    ``publish`` leaves out optimizer, schedulers and logs, and puts the file's sha256 prefix into its name.
    ``half`` rounds the weights to float16.
    """

    to: str = OURS
    backbone_only: bool = False
    publish: bool = False
    half: bool = False


def convert_checkpoint(
    source: str, out: str | os.PathLike, conversion: Conversion, force: bool = False
) -> Path:
    """Convert a checkpoint and return the path of the written file.

    Without ``half``, the tensors are copied bit for bit. The file appears whole or not at all.

    Args:
        source: a path, or an ``http(s)://`` or ``hf://`` reference.
        out: a path that ends in ``.pth`` or ``.safetensors``; the latter holds weights and nothing else.
        conversion: what to turn it into.
        force: replace an existing file.

    Raises:
        UserError: the checkpoint cannot be read or does not have the requested weights, or the output
            already exists.
        OSError: the output cannot be written.
    """
    out = Path(out).expanduser()
    if out.suffix not in SUFFIXES:
        raise UserError(f'{out}: expected a name that ends in {" or ".join(SUFFIXES)}')
    if not conversion.publish:
        _check_free(out, source, force)
    checkpoint = load_weights(source, with_config=True)
    weights = get_state_dict(checkpoint, source)
    weights = _convert_weights(weights, source, conversion)
    if conversion.half:
        weights = {n: v.half() if v.is_floating_point() else v for n, v in weights.items()}
    # a view would be saved with all the memory it is a part of
    weights = {n: v.clone(memory_format=torch.contiguous_format) for n, v in weights.items()}
    data: bytes | memoryview
    if out.suffix == '.safetensors':
        data = safetensors.torch.save(weights, {'format': 'pt'})
    else:
        container = 'model' if conversion.to == RELEASED else 'state_dict'
        buffer = io.BytesIO()
        torch.save({container: weights, **_beside(checkpoint, conversion)}, buffer)
        data = buffer.getbuffer()
    if conversion.publish:
        digest = hashlib.sha256(data).hexdigest()[:_SHA_DIGITS]
        out = out.with_name(f'{out.stem}-{digest}{out.suffix}')
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_free(out, source, force)
    try:
        with written_whole(out, replace=force) as partial:
            partial.write_bytes(data)
    except FileExistsError:  # it did not exist a moment ago
        _check_free(out, source, force)
        raise
    return out


def _convert_weights(
    weights: Mapping[str, Tensor], source: str, conversion: Conversion
) -> dict[str, Tensor]:
    """The weights under the requested names, in their order; UserError if some have no such name."""
    prefix = PREFIX if any(name.startswith(PREFIX) for name in weights) else ''
    rest = {n: v for n, v in weights.items() if n in _HEADS or not n.startswith(prefix)}
    inside = {n.removeprefix(prefix): v for n, v in weights.items() if n not in rest}
    backbone = rename_released(inside)
    if not any(network.read_sizes(backbone) for network in (WeightFormer, PyramidWeightFormer)):
        raise UserError(f'{source}: no weights of a WeightFormer or PyramidWeightFormer in it')
    if conversion.to == OURS and not conversion.backbone_only:
        return {**{f'{prefix}{name}': tensor for name, tensor in backbone.items()}, **rest}
    if conversion.to == RELEASED:
        try:
            backbone = rename_ours(backbone)
        except ValueError as error:
            raise UserError(f'{source}: {error}') from error
    if conversion.backbone_only:
        return backbone
    others = ', '.join(sorted({name.split('.')[0] for name in rest.keys() - _HEADS.keys()}))
    if others:
        raise UserError(f'{source}: no released names for {others}; add --backbone-only')
    return {**backbone, **{_HEADS[name]: tensor for name, tensor in rest.items()}}


def _beside(checkpoint: Mapping[str, Any], conversion: Conversion) -> dict[str, Any]:
    """What a ``.pth`` file holds besides the weights."""
    if not any(key in checkpoint for key in CONTAINERS):
        return {}
    # the optimizer's state belongs to the original model, with its original names
    if conversion.publish or conversion.backbone_only or conversion.to == RELEASED:
        return {'meta': checkpoint['meta']} if 'meta' in checkpoint else {}
    return {key: value for key, value in checkpoint.items() if key not in CONTAINERS}


def _check_free(path: Path, source: str, force: bool) -> None:
    if path.is_dir():
        raise UserError(f'{path} is a folder')
    refuse_replacing('', [path], [source])
    if os.path.lexists(path) and not force:
        raise UserError(f'{path} is there already; --force replaces it')
