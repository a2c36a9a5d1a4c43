"""One name for what the dynamic blocks of a network do, as tables and pictures have it."""

from __future__ import annotations

from itertools import product

from ..layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

ATTENTION, STATIC = 'attention', 'static'
PUBLISHED = 'bilateral+adaptive'


def strategy_options(name: str) -> dict[str, str]:
    """Arguments of a backbone for ``'<dynamic_linear>+<dynamic_conv>'``, ``'static'`` or ``'attention'``.

    Raises:
        ValueError: for an unknown name.
    """
    if name == ATTENTION:
        return dict(token_mixer=ATTENTION)
    linear, plus, conv = name.partition('+')
    if not plus and name == STATIC:
        conv = STATIC
    if linear not in WEIGHT_PREDICTORS.names() or conv not in KERNEL_PREDICTORS.names():
        raise ValueError(
            f'unknown strategy {name!r}; expected {STATIC}, {ATTENTION} or LINEAR+CONV with one of '
            f'{", ".join(WEIGHT_PREDICTORS.names())} and one of {", ".join(KERNEL_PREDICTORS.names())}'
        )
    return dict(token_mixer='dynamic', dynamic_linear=linear, dynamic_conv=conv)


def strategy_name(linear: str, conv: str) -> str:
    """The name of a pair of strategies; `strategy_options` reads it."""
    return STATIC if linear == conv == STATIC else f'{linear}+{conv}'


def compared_strategies() -> tuple[str, ...]:
    """Static, each linear and each convolution strategy alone, the published pair, and attention."""
    linears, convs = WEIGHT_PREDICTORS.names(), KERNEL_PREDICTORS.names()
    alone = [strategy_name(*pair) for pair in product(linears, [STATIC])]
    alone += [strategy_name(STATIC, conv) for conv in convs if conv != STATIC]
    return (*alone, PUBLISHED, ATTENTION)
