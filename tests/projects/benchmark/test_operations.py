from __future__ import annotations

import pytest
import torch

from projects.benchmark import operations
from projects.benchmark.ceilings import Ceilings
from projects.benchmark.measure import Method
from projects.benchmark.operations import (
    TABLE,
    Operation,
    Stage,
    check_choices,
    measure_operations,
    stages_of,
)
from projects.benchmark.results import Results
from tests.helpers import formulas
from weightformer_mm.errors import UserError

STAGE = Stage('stage', (1, 6, 10, 16))
METHOD = Method(torch.device('cpu'), 2, 1, 0.0, False, {}, ceilings=Ceilings(1e12, 1e10))


def test_stages_have_the_shapes_of_the_network():
    shapes = [stage.shape for stage in stages_of('pyramid-tiny', 800, 1270, 2)]
    assert shapes == [(2, 200, 318, 64), (2, 100, 159, 128), (2, 50, 80, 320), (2, 25, 40, 512)]
    (stage,) = stages_of('weightformer-small', 800, 1280, 1)
    assert stage.shape == (1, 50, 80, 384) and stage.hidden == 1536


def test_multiply_adds_are_those_of_the_closed_formulas():
    conv, linear = formulas.depthwise_conv(6, 10, 16), formulas.linear(6, 10, 16, 64)
    expected = dict.fromkeys(TABLE, 0)
    expected.update(dict.fromkeys((name for name in TABLE if 'depthwise_conv' in name), conv))
    expected.update(
        dict.fromkeys(('predicted_linear', 'fc1', 'fc2'), linear), residual_mlp=2 * linear
    )
    expected['adaptive_update'] = formulas.adaptive_depthwise_conv(6, 10, 16) - conv
    expected['bilateral_update'] = formulas.bilateral_linear(6, 10, 16, 64) - linear
    assert {name: each.multiply_adds(STAGE) for name, each in TABLE.items()} == expected


@pytest.mark.parametrize('name', TABLE)
def test_every_operation_is_measured_forward_and_backward(name):
    results = Results()
    measure_operations([name], [STAGE], ['torch'], 'float32', 0, METHOD, results)
    forward, backward = results.new
    assert forward['contender'] == f'{name}/stage/torch'
    assert (forward['mode'], backward['mode']) == ('forward', 'backward')
    assert float(forward['share_of_copy']) > 0
    assert int(backward['multiply_adds']) == 2 * int(forward['multiply_adds'])


def test_fewest_bytes():
    results = Results()
    measure_operations(
        ['layer_norm', 'bilateral_update'], [STAGE], ['torch'], 'float32', 0, METHOD, results
    )
    norm, norm_backward, predicted, predicted_backward = (int(row['bytes']) for row in results.new)
    features, parameters = 4 * 6 * 10 * 16, 4 * 2 * 16
    assert norm == 2 * features + parameters
    assert norm_backward == 3 * features + 2 * parameters
    weights = 4 * (20 * 16 + 20 + 4 * 16 + 16 * 64)
    assert predicted == features + weights + 4 * 16 * 64
    assert predicted_backward == features // 4 + features + 2 * weights + 4 * 16 * 64


def test_backends_are_compared_where_there_is_a_choice(monkeypatch):
    calls = []

    def function(x, backend='auto'):
        calls.append(backend)
        return x * 2

    chosen = Operation(lambda stage: [stage.shape], function)
    monkeypatch.setattr(operations, 'TABLE', {'double': chosen})
    results = Results()
    measure_operations(['double'], [STAGE], ['torch', 'auto'], 'float32', 0, METHOD, results)
    assert [row['contender'] for row in results.new[:2]] == [
        'double/stage/torch',
        'double/stage/auto',
    ]
    assert {row['ratio_to'] for row in results.new} == {'double/stage/torch'}
    assert set(calls) == {'torch', 'auto'}


def test_a_backend_that_fails_is_a_row(monkeypatch):
    def function(x, backend='auto'):
        if backend == 'triton':
            raise ValueError('needs a GPU')
        return x * 2

    chosen = Operation(lambda stage: [stage.shape], function)
    monkeypatch.setattr(operations, 'TABLE', {'double': chosen})
    results = Results()
    measure_operations(['double'], [STAGE], ['triton', 'torch'], 'float32', 0, METHOD, results)
    failed, done = results.new[:2]
    assert failed['contender'].endswith('/triton') and failed['note'] == 'ValueError: needs a GPU'
    assert done['contender'].endswith('/torch') and done['median_ms'] and not done['ratio_to']


@pytest.mark.parametrize(
    ('names', 'backends', 'expected'),
    [(['nothing'], ['auto'], 'depthwise_conv'), (['gelu'], ['cuda'], 'auto, torch, triton')],
)
def test_wrong_names(names, backends, expected):
    with pytest.raises(UserError, match=expected):
        check_choices(names, backends)


def test_wrong_arch():
    with pytest.raises(UserError, match='weightformer-base'):
        stages_of('pyramid-huge', 64, 64, 1)
