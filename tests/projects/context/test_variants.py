from __future__ import annotations

import pytest

from projects.context.variants import HARD_VARIANTS, choose
from weightformer_mm.backbones.strategies import compared_strategies
from weightformer_mm.errors import UserError


def test_some_are_chosen_in_the_order_of_the_table():
    assert list(choose(['attention', 'static'])) == ['static', 'attention']
    assert choose(None) == compared_strategies()
    assert list(choose(list(HARD_VARIANTS))) == list(HARD_VARIANTS)
    with pytest.raises(
        UserError, match="unknown variant 'linear-gapp'; choose of static, linear-gap"
    ):
        choose(['static', 'linear-gapp'])
