"""Strategy names: one for each thing that a network's dynamic blocks can do, as in tables and pictures."""

from __future__ import annotations

from ..layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

STATIC, PUBLISHED, ATTENTION = 'static', 'published', 'attention'


def compared_strategies() -> dict[str, dict[str, str]]:
    """The compared strategies, as name → arguments of a backbone. A registered strategy joins by itself.

    Each strategy comes alone, with the other layer static; then the published pair, and attention.
    """
    linear = {f'linear-{name}': _pair(linear=name) for name in WEIGHT_PREDICTORS.names()[1:]}
    conv = {f'conv-{name}': _pair(conv=name) for name in KERNEL_PREDICTORS.names()[1:]}
    pair, attention = _pair('bilateral', 'adaptive'), {'token_mixer': 'attention'}
    return {STATIC: _pair(), **linear, **conv, PUBLISHED: pair, ATTENTION: attention}


def strategy_options(name: str) -> dict[str, str]:
    """Arguments of a backbone for a name in `compared_strategies`, or for any pair ``LINEAR+CONV``.

    Raises:
        ValueError: for an unknown name.
    """
    table = compared_strategies()
    if name in table:
        return table[name]
    linears, convs = WEIGHT_PREDICTORS.names(), KERNEL_PREDICTORS.names()
    linear, _, conv = name.partition('+')
    if linear not in linears or conv not in convs:
        raise ValueError(
            f'unknown strategy {name!r}; choose from {", ".join(table)}, or LINEAR+CONV with one of '
            f'{", ".join(linears)} and one of {", ".join(convs)}'
        )
    return _pair(linear, conv)


def _pair(linear: str = STATIC, conv: str = STATIC) -> dict[str, str]:
    return {'dynamic_linear': linear, 'dynamic_conv': conv}
