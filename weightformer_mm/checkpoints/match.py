"""Do the weights of a checkpoint fit a model, by names, shapes and kinds of values?

Where they do not, mmengine only warns and goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from ..errors import UserError

_SHOWN = 3  # names that an error lists in each group
CONTAINERS = ('state_dict', 'model')  # the keys under which weights are
# what wrappers (compilation, sharding, recomputation) insert into names
_INSERTED = ('_checkpoint_wrapped_module', '_fsdp_wrapped_module', '_orig_mod')
_ONLY_TRAINS = 'auxiliary_head.'  # no prediction reads it
_WRAPPER = 'module.'  # what wrappers for distributed training put before each name
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Differences:
    """How a checkpoint differs from a model: four groups of names; true if any group has names."""

    missing: Sequence[str]  # wanted but not found
    unexpected: Sequence[str]  # found but not wanted
    reshaped: Sequence[str]  # wanted and found, but in another shape
    misfits: Mapping[str, str]  # wanted and found, and why the model cannot take them
    wanted: Mapping[str, Tensor]  # the weights that were compared
    found: Mapping[str, Tensor]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped or self.misfits)

    def listed(self, most: int) -> str:
        """The groups in words, with at most ``most`` names each; misfits only if there are any."""
        groups = {
            'missing': self.missing,
            'unexpected': self.unexpected,
            'of another shape': [
                f'{name} {tuple(self.found[name].shape)} instead of {tuple(self.wanted[name].shape)}'
                for name in self.reshaped
            ],
        }
        if self.misfits:
            groups['of another kind'] = [f'{name} {why}' for name, why in self.misfits.items()]
        return '; '.join(f'{kind}: {some(names, most)}' for kind, names in groups.items())


def compare(
    wanted: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> Differences:
    """Compare names, shapes and kinds of values.

    Floating point fits floating point, integers fit integers that can hold them, bool fits bool. Every value
    must be finite where that of ``wanted`` is.

    Args:
        wanted, found: the weights of the model and of the checkpoint.
        allow_missing: shell patterns of wanted names that may be missing, or have another shape or kind.
        allow_unexpected: shell patterns of found names that may be unexpected.
    """
    needed = {name: t for name, t in wanted.items() if not _matches(name, allow_missing)}
    shared = [name for name in needed if name in found]
    problems = {name: misfit(wanted[name], found[name]) for name in shared}
    return Differences(
        missing=[name for name in needed if name not in found],
        unexpected=[n for n in found if n not in wanted and not _matches(n, allow_unexpected)],
        reshaped=[name for name in shared if found[name].shape != wanted[name].shape],
        misfits={name: why for name, why in problems.items() if why},
        wanted=wanted,
        found=found,
    )


def compare_with_model(
    model: nn.Module,
    found: Mapping[str, Tensor],
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> Differences:
    """Like `compare`. The batch counters of BatchNorm may be missing: old checkpoints lack them."""
    wanted = unwrapped(model).state_dict()
    counters = [n for n in wanted if n.endswith('num_batches_tracked') and n not in found]
    return compare(wanted, found, (*allow_missing, *counters), allow_unexpected)


def usable(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """The found weights with a wanted name, shape and kind; the log lists the others."""
    taken = {
        name: tensor
        for name, tensor in found.items()
        if name in wanted
        and tensor.shape == wanted[name].shape
        and not misfit(wanted[name], tensor)
    }
    for what, names in (('not taken from it', wanted), ('left out', found)):
        rest = ', '.join(name for name in names if name not in taken)
        if rest:
            print_log(f'{source}: as allowed, {what}: {rest}', 'current')
    return taken


def weights_to_predict(
    model: nn.Module, checkpoint: dict[str, Any], path: str | os.PathLike
) -> dict[str, Tensor]:
    """The checkpoint's weights; a UserError unless they are exactly those of ``model``.

    If ``model`` has no auxiliary head, that of the checkpoint is left out, and the log says so.
    """
    weights = get_state_dict(checkpoint, path)
    wanted = {name for name in weights if not name.startswith(_ONLY_TRAINS)}
    if len(wanted) < len(weights) and getattr(unwrapped(model), 'auxiliary_head', None) is None:
        weights = {name: weights[name] for name in weights if name in wanted}
        print_log(f'{path}: left out the auxiliary head, which only trains', 'current')
    check_matches(model, {CONTAINERS[0]: weights}, path)
    return weights


def check_matches(model: nn.Module, checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    """Raise UserError unless the checkpoint has exactly the weights of ``model``."""
    differences = compare_with_model(model, get_state_dict(checkpoint, path))
    if not differences or converts(model, differences):
        return
    raise UserError(
        f'{path} is a checkpoint of another model: weights {differences.listed(_SHOWN)}. '
        'Give the config that it was trained with, or train from it with load_from'
    )


def converts(model: nn.Module, differences: Differences) -> bool:
    """Whether loading works anyway: some modules rename the keys of older checkpoints as they load.

    Afterwards ``model`` may hold some of the weights.
    """
    if differences.misfits:
        return False
    found = differences.found
    lacking = [tensor for name, tensor in differences.wanted.items() if name not in found]
    for tensor in (found[name] for name in differences.unexpected):
        alike = [one for one in lacking if one.shape == tensor.shape] or lacking
        if lacking and all(misfit(one, tensor) for one in alike):
            return False
    try:
        unwrapped(model).load_state_dict(dict(found), strict=True)
    except RuntimeError:
        return False
    return True


def get_state_dict(
    checkpoint: Mapping[str, Any],
    path: str | os.PathLike,
    containers: Sequence[str] = CONTAINERS,
) -> dict[str, Tensor]:
    """The model's weights in a checkpoint, under the names of the unwrapped model.

    They are under the first of ``containers`` that the checkpoint has; otherwise they are the checkpoint
    itself. A UserError if there are none, or some that no model could take.
    """
    state_dict = next((checkpoint[key] for key in containers if key in checkpoint), checkpoint)
    is_named = isinstance(state_dict, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state_dict.items()
    )
    if not is_named or not state_dict:
        raise UserError(
            f'{path} holds no weights of a model (no {" or ".join(containers)}; '
            f'its keys: {some(map(str, checkpoint), _SHOWN)})'
        )
    problems = {name: unusable(tensor) for name, tensor in state_dict.items()}
    odd = [f'{name} ({why})' for name, why in problems.items() if why]
    if odd:
        raise UserError(f'{path} holds weights that no model can take: {some(odd, _SHOWN)}')
    plain = {plain_name(name): tensor for name, tensor in state_dict.items()}
    if len(plain) < len(state_dict):
        twice = [name for name in state_dict if name not in plain]
        raise UserError(
            f'{path} is damaged: without the parts of wrappers, {some(twice, _SHOWN)} are twice'
        )
    state_dict = plain
    wrapped = [name for name in state_dict if name.startswith(_WRAPPER)]
    others = [name for name in state_dict if not name.startswith(_WRAPPER)]
    if wrapped and others:
        some_wrapped, some_others = some(wrapped, _SHOWN), some(others, _SHOWN)
        raise UserError(
            f'{path} is damaged: {some_wrapped} begin with {_WRAPPER}, {some_others} do not'
        )
    return {name.removeprefix(_WRAPPER): tensor for name, tensor in state_dict.items()}


def plain_name(name: str) -> str:
    """The name of a parameter or module without the parts that wrappers insert."""
    return '.'.join(part for part in name.split('.') if part not in _INSERTED)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers for distributed training and test-time augmentation."""
    inner: Any = model
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    return inner


def misfit(wanted: Tensor, found: Tensor) -> str:
    """Why a tensor like ``wanted``, of any shape, cannot take the values of ``found``; '' if it can."""
    if _kind(found) != _kind(wanted):
        return f'{_plain(found.dtype)} instead of {_plain(wanted.dtype)}'
    values = found.to(wanted.dtype)
    if _kind(wanted) is _INTEGERS:
        return '' if torch.equal(values.to(found.dtype), found) else 'too large'
    finite = values.isfinite()
    if not finite.all() and found.shape == wanted.shape and not wanted.is_meta:
        finite |= values == wanted.to(values.device)  # such as the infinities of a mask
    return '' if finite.all() else 'not finite'


def unusable(tensor: Tensor) -> str:
    """Why no model could take this tensor of a file; '' if one could."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f'a {type(tensor).__name__}'
    if tensor.is_meta:
        return 'without values (device meta)'
    if tensor.layout != torch.strided:
        return f'of layout {_plain(tensor.layout)}'
    if tensor.dtype not in (*_FLOATS, *_INTEGERS, torch.bool):
        return f'of type {_plain(tensor.dtype)}'
    return 'NaN' if tensor.isnan().any() else ''


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def some(names: Iterable[str], most: int) -> str:
    """The first ``most`` names, and how many more there are."""
    names = list(names)
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more or 'none'


def _kind(tensor: Tensor) -> tuple[torch.dtype, ...]:
    """The data types that can replace this tensor's; a type in neither group stands alone."""
    return next((kind for kind in (_FLOATS, _INTEGERS) if tensor.dtype in kind), (tensor.dtype,))


def _plain(name: object) -> str:
    return str(name).replace('torch.', '')
