"""How the weights in a checkpoint differ from those that a model wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor


@dataclass(frozen=True)
class Differences:
    """Three groups of names; true if there are any.

    Attributes:
        missing: wanted and not found.
        unexpected: found and not wanted.
        reshaped: wanted and found, in another shape.
        wanted, found: the weights that were compared.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    wanted: Mapping[str, Tensor]
    found: Mapping[str, Tensor]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def listed(self, most: int) -> str:
        """All three groups in words, at most ``most`` names of each."""
        reshaped = [
            f'{name} {tuple(self.found[name].shape)} instead of {tuple(self.wanted[name].shape)}'
            for name in self.reshaped
        ]
        groups = {
            'missing': self.missing,
            'unexpected': self.unexpected,
            'of another shape': reshaped,
        }
        return '; '.join(f'{_title(kind, names, most)}' for kind, names in groups.items())


def compare(
    wanted: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> Differences:
    """Compare names and shapes.

    Args:
        wanted: the model's weights.
        found: the checkpoint's weights.
        allow_missing: shell patterns of wanted names that may be missing or of another shape.
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
        wanted,
        found,
    )


def usable(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The found weights that have a wanted name and its shape."""
    return {n: v for n, v in found.items() if n in wanted and v.shape == wanted[n].shape}


def matches(name: str, patterns: str | Sequence[str]) -> bool:
    """Whether one of the shell patterns, or the only one, is that of ``name``."""
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _title(kind: str, names: Sequence[str], most: int) -> str:
    if not names:
        return f'{kind}: none'
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return f'{kind}: {", ".join(names[:most])}{more}'
