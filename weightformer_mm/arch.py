"""The sizes of the networks by name, and the arguments that select one. No library is needed for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .arguments import Rule, check_options

ISOTROPIC = {
    'tiny': dict(embed_dims=192, depth=17),
    'small': dict(embed_dims=384, depth=17),
    'base': dict(embed_dims=384, depth=17),
}
PYRAMID = {
    'micro': dict(embed_dims=(32, 64, 128, 192), depths=(3, 3, 3, 3)),
    'nano': dict(embed_dims=(32, 64, 160, 256), depths=(3, 3, 15, 3)),
    'tiny': dict(embed_dims=(64, 128, 320, 512), depths=(3, 3, 15, 3)),
    'small': dict(embed_dims=(96, 192, 384, 640), depths=(3, 3, 21, 3)),
    'base': dict(embed_dims=(128, 256, 512, 768), depths=(3, 3, 21, 3)),
}


def resolve_arch(
    arch: str | Mapping[str, Any],
    table: Mapping[str, Mapping[str, Any]],
    rules: Mapping[str, Rule],
) -> dict[str, Any]:
    """Look ``arch`` up in ``table``, or check that an explicit one has exactly the table's keys.

    Args:
        rules: what each value of an explicit one may be.

    Raises:
        ValueError, TypeError: for an unknown name, wrong keys or values, or neither a name nor a mapping.
    """
    if isinstance(arch, str):
        if arch not in table:
            raise ValueError(
                f'unknown arch {arch!r}; choose one of {", ".join(table)}, or give a dict'
            )
        return dict(table[arch])
    if not isinstance(arch, Mapping):
        raise TypeError(f'expected arch to be a name or a dict, got {type(arch).__name__}')
    keys = set(next(iter(table.values())))
    if set(arch) != keys:
        given = sorted(map(str, arch))
        raise ValueError(f'expected an arch dict with the keys {sorted(keys)}, got {given}')
    check_options(arch, rules)
    return dict(arch)


def resolve_out_indices(out_indices: int | Sequence[int], count: int, unit: str) -> tuple[int, ...]:
    """Indices of ``count`` units, from 0; a ValueError if one is out of range, or they do not increase."""
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    resolved = tuple(index + count if index < 0 else index for index in given)
    if not resolved or any(not 0 <= index < count for index in resolved):
        raise ValueError(
            f'expected out_indices from {-count} to {count - 1} ({count} {unit}), got {given}'
        )
    if any(second <= first for first, second in zip(resolved, resolved[1:])):
        raise ValueError(f'expected out_indices in increasing order without repeats, got {given}')
    return resolved
