from __future__ import annotations

import pytest
from torch import nn

from weightformer_mm.context.variants import HARD_VARIANTS, choose, variants
from weightformer_mm.engine.errors import UserError
from weightformer_mm.layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS


def test_each_strategy_stands_alone():
    table = variants()
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
    assert variants()['linear-mine'] == {'dynamic_linear': 'mine', 'dynamic_conv': 'static'}


def test_some_are_chosen_in_the_order_of_the_table():
    assert list(choose(['attention', 'static'])) == ['static', 'attention']
    assert choose(None) == variants()
    assert list(choose(list(HARD_VARIANTS))) == list(HARD_VARIANTS)
    with pytest.raises(
        UserError, match="unknown variant 'linear-gapp'; choose of static, linear-gap"
    ):
        choose(['static', 'linear-gapp'])
