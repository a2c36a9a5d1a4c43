"""Resolve the arguments that select a network: a named or explicit architecture, and its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def resolve_arch(
    arch: str | Mapping[str, Any], table: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Look ``arch`` up in ``table``, or check that an explicit one has exactly the table's keys.

    Raises:
        ValueError, TypeError: for an unknown name, wrong keys, or neither a name nor a mapping.
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
        raise ValueError(f'expected an arch dict with the keys {sorted(keys)}, got {sorted(arch)}')
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
