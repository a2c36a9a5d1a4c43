"""Which of the strategies are compared."""

from __future__ import annotations

from weightformer_mm.backbones.strategies import ATTENTION, PUBLISHED, STATIC, compared_strategies
from weightformer_mm.errors import UserError

HARD_VARIANTS = (STATIC, PUBLISHED, ATTENTION)  # of the hard version


def choose(names: list[str] | None) -> dict[str, dict[str, str]]:
    """The variants of these names in the order of the table; all for None.

    Raises:
        UserError: there is no variant of a name.
    """
    table = compared_strategies()
    unknown = [name for name in names or () if name not in table]
    if unknown:
        raise UserError(f'unknown variant {unknown[0]!r}; choose of {", ".join(table)}')
    return {name: table[name] for name in table if names is None or name in names}
