"""The part of a config that an error comes from."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, Registry

from weightformer_mm.errors import UserError
from weightformer_mm.utils.blame import described, place_built, type_name
from weightformer_mm.utils.translate import blame, blamed, explain

PARTS = Registry('parts')


@PARTS.register_module()
class Part:
    def __init__(self, size=1, inner=None, added=None):
        self.inner = PARTS.build(dict(inner, added=3)) if inner else None
        assert size > 0
        self.size = 6 // size


def build(cfg: Config) -> None:
    PARTS.build(cfg.first)


@pytest.mark.parametrize(
    ('size', 'text'),
    [
        ('x', "TypeError: '>' not supported between"),
        (0, 'assert 0 > 0 (test_blame.py, line '),
        (None, "TypeError: '>' not supported"),
    ],
)
def test_what_a_part_raises_is_the_config_s_fault(size, text):
    inner = dict(type='Part', size=size)
    cfg = Config(dict(copy=inner, first=dict(type='Part', inner=inner)))
    with pytest.raises((TypeError, AssertionError)) as info:
        build(cfg)
    assert place_built(info.value) == 'first.inner'  # not the shallower copy
    problem = explain(info.value)
    assert isinstance(problem, UserError) and str(problem).startswith(
        f'config: first.inner: {text}'
    )


def test_without_a_config_it_is_a_bug():
    with pytest.raises(TypeError) as info:
        PARTS.build(dict(type='Part', size='x'))
    assert place_built(info.value) is None and explain(info.value) is None


def test_an_argument_is_named_with_its_place():
    def make(cfg: Config) -> None:
        MODELS.build(cfg.model.backbone)

    backbone = dict(type='PyramidWeightFormer', drop_path_rate=2)
    with pytest.raises(ValueError, match='drop_path_rate') as info:
        make(Config(dict(model=dict(backbone=backbone))))
    assert str(explain(info.value)).startswith(
        'config: model.backbone: expected a number drop_path'
    )


def test_an_error_in_one_line():
    with pytest.raises(UserError, match='^there: KeyError: .a b. .test_blame.py, line'):
        with blamed('there'):
            {}['a\nb'[:1] + ' b']
    assert str(blame(UserError('known'), 'there')) == 'known'
    with pytest.raises(AssertionError) as info:
        raise AssertionError
    assert described(info.value).startswith('this does not hold: raise AssertionError (test_bla')
    worker = RuntimeError(
        'Caught KeyError.\nOriginal Traceback (most recent call last):\n  x\nKeyError: 3'
    )
    assert '\n' not in described(worker) and 'Traceback' not in described(worker)


def test_names_of_types():
    assert [type_name(node) for node in ({'type': 'mmdet.A'}, {'type': Part}, {}, 3)] == [
        *('A', 'Part', ''),
        '',
    ]
