"""Why weights do not fit a backbone, most likely, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .match import Differences

SHOWN = 20  # names of a kind that an error lists
_PREDICTOR = '.predictor.'


def likeliest_cause(backbone: Any, differences: Differences) -> str:
    """Why weights do not fit, most likely; names in ``differences`` are those of the backbone."""
    if differences.misfits:
        return 'the weights are damaged, or were cast'
    kind = type(backbone).__name__
    if not hasattr(backbone, 'describe_sizes'):
        return f'these are not the weights of this {kind}'
    theirs, ours = map(backbone.describe_sizes, (differences.found, differences.wanted))
    if theirs is None:
        return f'these are not weights of a {kind}'
    if theirs != ours:
        return f'these are weights of {theirs}, the model is {ours}'
    names = [*differences.missing, *differences.unexpected]
    predictors = [n for n in (*differences.wanted, *differences.found) if _PREDICTOR in n]
    if predictors and all(_PREDICTOR in n for n in names) and _blocks(names) == _blocks(predictors):
        return 'these weights were trained with another dynamic_linear or dynamic_conv'
    if any('.attention.' in name or '.norm1.' in name for name in names):
        return 'these weights were trained with another token_mixer or dynamic_every'
    if _whole_norms(names):
        return 'these weights were trained with other out_indices'
    if not names and all(re.search(r'(proj|conv1)\.weight$', n) for n in differences.reshaped):
        return 'these weights were trained with another patch_size or in_channels'
    return 'the weights are incomplete, or of another version of the network'


def remedy(differences: Differences) -> str:
    """How to allow output norms that differ, if nothing else does; else ''."""
    groups = {
        'allow_missing': differences.missing,
        'allow_unexpected': differences.unexpected,
    }
    if differences.reshaped or not _whole_norms([*differences.missing, *differences.unexpected]):
        return ''
    options = [
        f'{option}={[f"{norm}.*" for norm in _whole_norms(names)]}'
        for option, names in groups.items()
        if names
    ]
    return f'. To start with that difference: {", ".join(options)}'


def _blocks(names: Iterable[str]) -> set[str]:
    """The parts of names up to the number of the block."""
    matches = (re.match(r'.*blocks\.\d+', name) for name in names)
    return {match[0] for match in matches if match}


def _whole_norms(names: Iterable[str]) -> list[str]:
    """The output norms that ``names`` are made of, weight and bias each; none if anything else is there."""
    names = set(names)
    norms = {match[0] for match in (re.match(r'norm\d+', name) for name in names) if match}
    whole = {f'{norm}.{kind}' for norm in norms for kind in ('weight', 'bias')}
    return sorted(norms) if names == whole else []
