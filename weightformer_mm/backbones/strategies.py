"""One name for what the dynamic blocks of a network do, as tables and pictures have it."""

from __future__ import annotations

from ..layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

STATIC, PUBLISHED, ATTENTION = 'static', 'published', 'attention'


def compared_strategies() -> dict[str, dict[str, str]]:
    """Name → arguments of a backbone: what is compared. A strategy joins by being registered.

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


def strategy_options(name: str) -> dict[str, str]:
    """Arguments of a backbone for a name in `compared_strategies`, or for any pair ``LINEAR+CONV``.

    Raises:
        ValueError: for an unknown name.
    """
    table = compared_strategies()
    if name in table:
        return table[name]
    linear, _, conv = name.partition('+')
    if linear not in WEIGHT_PREDICTORS.names() or conv not in KERNEL_PREDICTORS.names():
        raise ValueError(
            f'unknown strategy {name!r}; choose of {", ".join(table)}, or LINEAR+CONV with one of '
            f'{", ".join(WEIGHT_PREDICTORS.names())} and one of {", ".join(KERNEL_PREDICTORS.names())}'
        )
    return _pair(linear, conv)


def _pair(linear: str = STATIC, conv: str = STATIC) -> dict[str, str]:
    return {'dynamic_linear': linear, 'dynamic_conv': conv}
