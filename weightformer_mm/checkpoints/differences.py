"""How the weights in a checkpoint differ from those that a model wants: names, shapes, kinds of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Differences:
    """Four groups of names; true if there are any.

    Attributes:
        missing: wanted and not found.
        unexpected: found and not wanted.
        reshaped: wanted and found, in another shape.
        misfits: wanted and found, and why the values are none that the model could have.
        wanted, found: the weights that were compared.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    misfits: Mapping[str, str]
    wanted: Mapping[str, Tensor]
    found: Mapping[str, Tensor]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped or self.misfits)

    def listed(self, most: int) -> str:
        """The groups in words, at most ``most`` names of each; the fourth if there are any of it."""
        reshaped = [
            f'{name} {tuple(self.found[name].shape)} instead of {tuple(self.wanted[name].shape)}'
            for name in self.reshaped
        ]
        groups = {
            'missing': self.missing,
            'unexpected': self.unexpected,
            'of another shape': reshaped,
        }
        if self.misfits:
            groups['of another kind'] = [f'{name} {why}' for name, why in self.misfits.items()]
        return '; '.join(f'{_title(kind, names, most)}' for kind, names in groups.items())


def compare(
    wanted: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> Differences:
    """Compare names, shapes and kinds of values.

    Floating point comes from floating point, whole numbers from whole numbers that fit, bool from bool.
    All values are finite where those of ``wanted`` are.

    Args:
        wanted: the model's weights.
        found: the checkpoint's weights.
        allow_missing: shell patterns of wanted names that may be missing, or of another shape or
            kind.
        allow_unexpected: shell patterns of found names that may be unexpected.
    """
    return Differences(
        tuple(n for n in wanted if n not in found and not matches(n, allow_missing)),
        tuple(n for n in found if n not in wanted and not matches(n, allow_unexpected)),
        tuple(
            name
            for name, tensor in wanted.items()
            if name in found
            and found[name].shape != tensor.shape
            and not matches(name, allow_missing)
        ),
        {
            name: why
            for name, why in ((n, misfit(t, found[n])) for n, t in wanted.items() if n in found)
            if why and not matches(name, allow_missing)
        },
        wanted,
        found,
    )


def usable(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The found weights that have a wanted name and its shape and kind."""
    return {
        name: tensor
        for name, tensor in found.items()
        if name in wanted
        and tensor.shape == wanted[name].shape
        and not misfit(wanted[name], tensor)
    }


def misfit(wanted: Tensor, found: Tensor) -> str:
    """Why the values of ``found`` could not be those of ``wanted``, whatever its shape; or nothing."""
    if _kind(found) != _kind(wanted):
        return f'{_plain(found.dtype)} instead of {_plain(wanted.dtype)}'
    values = found.to(wanted.dtype)
    if _kind(wanted) is _WHOLE:
        return '' if torch.equal(values.to(found.dtype), found) else 'too large'
    if values.isfinite().all():
        return ''
    alike = found.shape == wanted.shape and not wanted.is_meta
    same = (
        values == wanted.to(values.device) if alike else torch.zeros_like(values, dtype=torch.bool)
    )
    return '' if (values.isfinite() | same).all() else 'not finite'


def unusable(tensor: Tensor) -> str:
    """Why no model at all could take a tensor of a file; empty if one could."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f'a {type(tensor).__name__}'
    if tensor.is_meta:
        return 'without values (device meta)'
    if tensor.layout != torch.strided:
        return f'of layout {_plain(tensor.layout)}'
    if tensor.dtype not in (*_FLOATS, *_WHOLE, torch.bool):
        return f'of type {_plain(tensor.dtype)}'
    return 'NaN' if tensor.isnan().any() else ''


def _kind(tensor: Tensor) -> tuple[torch.dtype, ...]:
    """The types that stand for one another; of other ones each for itself."""
    return next((kind for kind in (_FLOATS, _WHOLE) if tensor.dtype in kind), (tensor.dtype,))


def _plain(name: object) -> str:
    return str(name).replace('torch.', '')


def matches(name: str, patterns: str | Sequence[str]) -> bool:
    """Whether one of the shell patterns, or the only one, is that of ``name``."""
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _title(kind: str, names: Sequence[str], most: int) -> str:
    if not names:
        return f'{kind}: none'
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return f'{kind}: {", ".join(names[:most])}{more}'
