from __future__ import annotations

import pytest
from torch import nn

from weightformer_mm.backbones.strategies import compared_strategies, strategy_options
from weightformer_mm.layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS


def test_each_strategy_stands_alone():
    table = compared_strategies()
    for name in set(WEIGHT_PREDICTORS.names()) - {'static'}:
        assert table[f'linear-{name}'] == {'dynamic_linear': name, 'dynamic_conv': 'static'}
    for name in set(KERNEL_PREDICTORS.names()) - {'static'}:
        assert table[f'conv-{name}'] == {'dynamic_linear': 'static', 'dynamic_conv': name}
    assert table['static'] == {'dynamic_linear': 'static', 'dynamic_conv': 'static'}
    assert table['published'] == {'dynamic_linear': 'bilateral', 'dynamic_conv': 'adaptive'}
    assert table['attention'] == {'token_mixer': 'attention'}
    strategies = len(WEIGHT_PREDICTORS.names()) + len(KERNEL_PREDICTORS.names()) - 2
    assert len(table) == strategies + 3


def test_a_new_strategy_joins_by_being_registered(monkeypatch):
    monkeypatch.setattr(WEIGHT_PREDICTORS, '_factories', dict(WEIGHT_PREDICTORS._factories))
    WEIGHT_PREDICTORS.register('mine')(nn.Module)
    mine = {'dynamic_linear': 'mine', 'dynamic_conv': 'static'}
    assert compared_strategies()['linear-mine'] == strategy_options('linear-mine') == mine


def test_any_pair_has_a_name():
    assert strategy_options('gap+conv') == {'dynamic_linear': 'gap', 'dynamic_conv': 'conv'}
    for name in ('magic', 'gap', 'gap+magic', '+conv'):
        with pytest.raises(
            ValueError, match=r'unknown strategy .*; choose from static, linear-gap'
        ):
            strategy_options(name)
