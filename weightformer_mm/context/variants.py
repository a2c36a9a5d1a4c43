"""What is compared: one network, with one way after the other to use context."""

from __future__ import annotations

from ..engine.errors import UserError
from ..layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

STATIC, PUBLISHED, ATTENTION = 'static', 'published', 'attention'
HARD_VARIANTS = (STATIC, PUBLISHED, ATTENTION)  # of the hard version


def variants() -> dict[str, dict[str, str]]:
    """Name → arguments of the backbone. A strategy joins by being registered.

    Each strategy stands alone, with the other layer static; then the published pair, and attention.
    """
    table = {STATIC: _pair()}
    for name in WEIGHT_PREDICTORS.names():
        if name != STATIC:
            table[f'linear-{name}'] = _pair(linear=name)
    for name in KERNEL_PREDICTORS.names():
        if name != STATIC:
            table[f'conv-{name}'] = _pair(conv=name)
    table[PUBLISHED] = _pair('bilateral', 'adaptive')
    table[ATTENTION] = {'token_mixer': 'attention'}
    return table


def choose(names: list[str] | None) -> dict[str, dict[str, str]]:
    """The variants of these names in the order of the table; all for None.

    Raises:
        UserError: there is no variant of a name.
    """
    table = variants()
    unknown = [name for name in names or () if name not in table]
    if unknown:
        raise UserError(f'unknown variant {unknown[0]!r}; choose of {", ".join(table)}')
    return {name: table[name] for name in table if names is None or name in names}


def _pair(linear: str = STATIC, conv: str = STATIC) -> dict[str, str]:
    return {'dynamic_linear': linear, 'dynamic_conv': conv}
