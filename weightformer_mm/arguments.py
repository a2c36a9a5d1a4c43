"""What the options of the networks may be: one rule for each name, and one wording for all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from .errors import ArgumentError

_LONGEST = 60  # characters of a wrong value that a message shows


@dataclass(frozen=True)
class Rule:
    """A kind of value.

    Attributes:
        phrase: what is expected, with braces for the name of the option.
        fits: whether a value is of this kind; it must not raise for any value.
    """

    phrase: str
    fits: Callable[[Any], bool]

    def check(self, name: str, value: Any) -> None:
        """Raise ArgumentError, which is a ValueError, unless the value fits."""
        if not self.fits(value):
            text = ' '.join(repr(value).split())
            shown = text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'
            raise ArgumentError(f'expected {self.phrase.format(name)}, got {shown}')


def is_integer(value: Any) -> bool:
    """Whether a value is an integer; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def integer(least: int, most: int | None = None) -> Rule:
    """Integers from ``least`` to ``most``, or to any number."""
    whole = f'{{}} to be an integer from {least} to {most}'
    return Rule(
        f'an integer {{}} of at least {least}' if most is None else whole,
        lambda value: is_integer(value) and least <= value and (most is None or value <= most),
    )


def one_of(*choices: str) -> Rule:
    """Some names."""
    return Rule(
        f'{{}} to be one of {", ".join(choices)}', lambda v: isinstance(v, str) and v in choices
    )


def optional(rule: Rule) -> Rule:
    """None as well."""
    return Rule(f'{rule.phrase} or None', lambda value: value is None or rule.fits(value))


def _is_sequence(value: Any, fits: Callable[[Any], bool]) -> bool:
    is_plain = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return is_plain and all(map(fits, value))


def _is_init_cfg(value: Any) -> bool:
    entries = [value] if isinstance(value, Mapping) else value
    return value is None or _is_sequence(entries, _is_initializer)


def _is_initializer(value: Any) -> bool:
    """Whether this describes an initialisation; that of pretrained weights has known keys."""
    if not isinstance(value, Mapping) or not isinstance(value.get('type'), (str, type)):
        return False
    kind = value['type'] if isinstance(value['type'], str) else value['type'].__name__
    if kind.rpartition('.')[2] not in ('Pretrained', 'PretrainedInit'):
        return True
    adapts = isinstance(value.get('adapt_input', False), bool)
    return adapts and isinstance(value.get('checkpoint'), str) and value.keys() <= _PRETRAINED


_PRETRAINED = {
    'adapt_input',
    'allow_missing',
    'allow_unexpected',
    'checkpoint',
    'map_location',
    'prefix',
    'type',
}

COUNT = integer(1)
FLAG = Rule('{} to be True or False', lambda value: isinstance(value, bool))
NAME = Rule('{} to be a name', lambda value: isinstance(value, str))
# a rate of 1 would drop everything, and divide by the share that is kept
RATE = Rule(
    'a number {} from 0 to below 1',
    lambda value: isinstance(value, Real) and not isinstance(value, bool) and 0 <= value < 1,
)
COUNTS = Rule(
    '{} to be a list of integers of at least 1',
    lambda value: _is_sequence(value, COUNT.fits) and len(value) > 0,
)

RULES = {
    'backend': one_of('auto', 'torch', 'triton'),
    'cuda_graph': FLAG,
    'depth': COUNT,
    'depths': COUNTS,
    'drop_path_rate': RATE,
    'drop_rate': RATE,
    'dynamic_conv': NAME,
    'dynamic_every': COUNT,
    'dynamic_linear': NAME,
    'frozen_stages': Rule('{} to be an integer', is_integer),
    'in_channels': COUNT,
    'init_cfg': Rule(
        '{} to be None, a dict with type, or a list of these; of Pretrained weights the keys are '
        + ', '.join(sorted(_PRETRAINED)),
        _is_init_cfg,
    ),
    'max_tokens': COUNT,
    'memory_efficient': FLAG,
    'num_outs': integer(4),
    'out_channels': COUNT,
    'out_indices': Rule(
        '{} to be an integer or a list of integers',
        lambda value: is_integer(value) or _is_sequence(value, is_integer),
    ),
    'output_stride': Rule('{} to be 8, 16 or 32', lambda v: is_integer(v) and v in (8, 16, 32)),
    'patch_size': COUNT,
    'token_mixer': NAME,
    'with_cp': FLAG,
}


def check_options(values: Mapping[str, Any], rules: Mapping[str, Rule] = RULES) -> None:
    """Raise ArgumentError for the first value that breaks the rule of its name; others have none."""
    for name, value in values.items():
        if name in rules:
            rules[name].check(name, value)


def checked(**own: Rule) -> Callable[[Callable], Callable]:
    """Decorator of a constructor: check its arguments by `RULES` before it runs.

    Args:
        own: rules in the place of those of `RULES`.
    """
    rules = {**RULES, **own}

    def decorator(constructor: Callable) -> Callable:
        signature = inspect.signature(constructor)

        @functools.wraps(constructor)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                values = signature.bind(self, *args, **kwargs).arguments
            except TypeError:  # an unknown argument, which the call itself refuses by name
                values = {}
            check_options(values, rules)
            constructor(self, *args, **kwargs)

        return wrapper

    return decorator


def resolve_arch(
    arch: str | Mapping[str, Any],
    table: Mapping[str, Mapping[str, Any]],
    rules: Mapping[str, Rule] = RULES,
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
