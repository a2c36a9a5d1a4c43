from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import nn

from projects.benchmark.ceilings import Ceilings
from projects.benchmark.contenders import parse_contenders
from projects.benchmark.kinds import (
    ALLOCATION,
    CONV,
    DEPTHWISE,
    ELEMENTWISE,
    GELU,
    MATMUL,
    NORM,
    PREDICTION,
    KindCounter,
    flop_formulas,
)
from projects.benchmark.step_profile import profile_or_reason, profile_step, render_profiles
from projects.benchmark.steps import Case
from weightformer_mm.layers import DynamicBlock, DynamicLinear, StaticBlock
from weightformer_mm.layers.fused import as_built
from weightformer_mm.ops import with_bounded_update

SIZE = 64
WIDTHS = (32, 64, 128, 192)


# the plain form computes everything once, so that its work is known to the last digit
CONTENDERS = ['plain-pyramid-micro', 'pyramid-micro', 'pyramid-micro+memory']


@pytest.fixture(scope='module')
def plain():
    return profile_of('plain-pyramid-micro')


@lru_cache  # which takes seconds
def profile_of(name):
    (contender,) = parse_contenders([name])
    return profile_step(contender, Case('train', 'float32', 1, SIZE, SIZE), torch.device('cpu'))


def tokens():
    return [(SIZE // stride) ** 2 for stride in (4, 8, 16, 32)]


def test_work_is_assigned_to_its_kind_forward_and_backward(plain):
    work = {part.kind: part.multiply_adds for part in plain.parts}
    linear = sum(3 * 8 * count * width**2 for count, width in zip(tokens(), WIDTHS))
    assert work[MATMUL] == 3 * linear
    depthwise = sum(3 * 9 * count * width for count, width in zip(tokens(), WIDTHS))
    assert work[DEPTHWISE] == 3 * depthwise
    first = (SIZE // 2) ** 2 * 9 * 3 * 16
    others = [16, *WIDTHS]
    convolutions = sum(
        count * 9 * before * after for count, before, after in zip(tokens(), others, WIDTHS)
    )
    assert work[CONV] == 2 * first + 3 * convolutions  # the image needs no gradient
    assert work[PREDICTION] > 0 and work[NORM] == work[GELU] == work[ELEMENTWISE] == 0


def test_bytes_are_those_of_inputs_and_outputs(plain):
    gelu = next(part for part in plain.parts if part.kind == GELU)
    # forward reads and writes, backward reads two and writes one; the stem has one on half its width
    hidden = sum(3 * 4 * count * width for count, width in zip(tokens(), WIDTHS))
    stem = (SIZE // 2) ** 2 * 16
    assert gelu.bytes == 5 * 4 * (hidden + stem)
    assert gelu.calls == 2 * 13


@pytest.mark.parametrize('name', CONTENDERS)
def test_every_kind_is_found_takes_time_and_moves_bytes(name, plain):
    parts = {part.kind: part for part in profile_of(name).parts if part.calls}
    assert set(parts) == {MATMUL, DEPTHWISE, CONV, NORM, GELU, PREDICTION, ELEMENTWISE}
    assert all(part.milliseconds > 0 and part.bytes > 0 for part in parts.values())
    for part in plain.parts:  # nothing is computed less often, but for the re-associated product
        if part.kind not in (PREDICTION, ALLOCATION):
            assert parts[part.kind].multiply_adds >= part.multiply_adds, part.kind


def test_predicted_weights_are_prediction_whatever_the_operation():
    counter = KindCounter()
    layer = DynamicLinear(8, 32)
    update = torch.ones(2, 8, 32)
    with counter.watch(layer), counter:
        with_bounded_update(update, layer.weight, dim=1)
        torch.exp(torch.ones(2, 3, 32))
    assert counter.calls[PREDICTION] >= 2 and counter.calls[ELEMENTWISE] >= 1
    assert counter.bytes[PREDICTION] >= 2 * 4 * update.numel()


def test_products_are_products_whatever_they_are_called():
    counter = KindCounter()
    x, weight = torch.ones(6, 4), torch.ones(5, 4)
    out, image, kernel = torch.zeros(6, 5), x.T[None, :, None], weight[:, :, None, None]
    with counter:
        out.addmm_(x, weight.T)
        torch.mm(x, weight.T, out=out)
    # 6x5 is read and written in place, and written alone as a result
    assert counter.bytes == {MATMUL: 4 * (2 * (6 * 4 + 4 * 5) + 3 * 6 * 5)}
    with counter:
        nn.functional.conv2d(image, kernel)
        nn.functional.conv2d(image, torch.ones(4, 1, 1, 1), groups=4)
    assert counter.multiply_adds == {MATMUL: 3 * 6 * 4 * 5, DEPTHWISE: 6 * 4, ELEMENTWISE: 0}


def test_expanded_and_inplace_tensors():
    counter = KindCounter()
    x = torch.zeros(8, 8)
    with counter:
        x.add_(torch.ones(1).expand(8, 8))
    # allocating the ones writes them; then x is read and written, the ones are read
    assert counter.bytes[ELEMENTWISE] == 4 + 2 * 256 + 4


def test_hooks_are_removed():
    model = nn.Sequential(DynamicLinear(4, 4))
    predictor = model[0].predictor
    with KindCounter().watch(model):
        assert predictor._forward_hooks and not model[0]._forward_hooks
    assert not predictor._forward_hooks and not predictor._forward_pre_hooks


def test_the_step_that_is_profiled_is_the_one_that_runs():
    """A hook on a layer would keep it from being fused with those around it."""
    (contender,) = parse_contenders(['pyramid-micro'])
    model = contender.build()
    with KindCounter().watch(model):
        blocks = [
            module for module in model.modules() if isinstance(module, (StaticBlock, DynamicBlock))
        ]
        assert blocks and all(as_built(block.dwc, block.norm2) for block in blocks)


def test_markdown_has_a_row_per_kind_and_the_sum(plain):
    text = render_profiles([plain], Ceilings(1e12, 1e10), 'A machine.')
    rows = [line for line in text.splitlines() if line.startswith('| ')]
    assert len(rows) == len(plain.parts) + 3
    assert len({row.count('|') for row in rows}) == 1
    assert rows[-1].startswith('| all |') and '100.0%' in rows[-1]


def test_what_cannot_be_profiled_says_why_beside_the_others(plain):
    (contender,) = parse_contenders(['pyramid-micro+graph'])
    case = Case('train', 'float32', 1, SIZE, SIZE)
    failed = profile_or_reason(contender, case, torch.device('cpu'))
    text = render_profiles([failed, plain], Ceilings(1e12, 1e10), 'A machine.')
    assert "Not measured: CUDA graphs need a GPU; this is 'cpu'" in text and '| all |' in text


def test_formulas_take_tensors():
    aten = torch.ops.aten
    formulas = flop_formulas({aten.dot: lambda left, right, out_shape: 2 * left[0]})
    left, right, vector = torch.ones(3, 4), torch.ones(4, 5), torch.ones(7)
    assert formulas[aten.dot](vector, vector, out_val=vector.sum()) == 14
    assert formulas[aten.mm](left, right, out_val=left @ right) == 2 * 3 * 4 * 5
