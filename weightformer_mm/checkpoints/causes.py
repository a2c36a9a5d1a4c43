"""The likeliest reason why weights do not fit a backbone."""

from __future__ import annotations

import re
from typing import Any

from .match import Differences

SHOWN = 20  # names that an error lists in each group
# how the weights were trained, if names like these differ; the first match counts
_SIGNS = {
    'another token_mixer or dynamic_every': r'\.(attention|norm1)\.',
    'another dynamic_linear or dynamic_conv': r'\.predictor\.',
    'other out_indices': r'^norm\d+\.',
    'another patch_size or in_channels (which adapt_input=True adapts)': r'(proj|conv1)\.weight$',
}


def likeliest_cause(backbone: Any, differences: Differences) -> str:
    """The likeliest reason why weights do not fit; ``differences`` uses the backbone's own names."""
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
    names = [*differences.missing, *differences.unexpected, *differences.reshaped]
    for change, sign in _SIGNS.items():
        if any(re.search(sign, name) for name in names):
            return f'these weights were trained with {change}, or are incomplete'
    return 'the weights are incomplete, or of another version of the network'
