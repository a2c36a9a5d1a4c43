"""Counted steps: against what one block must do, against what is stored, and for any network."""

from __future__ import annotations

import csv
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from weightformer_mm.ops._shared.compat import HAS_CUSTOM_OPS

if not HAS_CUSTOM_OPS:
    pytest.skip('needs torch 2.4', allow_module_level=True)

from projects.benchmark.contenders import parse_contenders
from projects.benchmark.kinds import DEPTHWISE, ELEMENTWISE, GELU, MATMUL
from projects.benchmark.steps import Case
from projects.benchmark.trace import trace_step
from projects.benchmark.trace_table import ALL, COLUMNS
from tests.helpers.commands import ROOT, Tools
from tests.helpers.needs import locked
from weightformer_mm.layers import StaticBlock, set_backend

pytest.importorskip('triton')
SIZE, CHANNELS = 96, 64
CASE = Case('inference', 'bfloat16', 1, SIZE, SIZE)


class OneBlock(nn.Module):
    def __init__(self, backend, channels=CHANNELS, dtype=torch.float32):
        super().__init__()
        self.shape, self.dtype = (SIZE, SIZE, channels), dtype
        self.block = StaticBlock(channels)
        set_backend(self.block, backend)

    def forward(self, image):
        x = image.new_empty(len(image), *self.shape, dtype=self.dtype)
        return [self.block(x.requires_grad_(torch.is_grad_enabled()))]


def by_kind(launches, name):
    counts = Counter()
    for launch in launches:
        counts[launch.kind] += getattr(launch, name)
    return counts


@pytest.mark.parametrize('channels', [CHANNELS, 384], ids=['whole', 'in two products'])
def test_a_static_block_by_hand(channels):
    """Under autocast, in a network: map, norm and MLP in bfloat16, parameters in float32."""
    launches = trace_step(OneBlock('triton', channels, torch.bfloat16), CASE)
    # convolution with norm; casts of two weights; the MLP whole, or FC1 with GELU and FC2 with the addition
    assert len(launches) == 1 + 2 + (1 if channels == CHANNELS else 2)
    numbers, weight = SIZE**2 * channels, 4 * channels**2
    moved, work = by_kind(launches, 'bytes'), by_kind(launches, 'multiply_adds')
    assert moved[DEPTHWISE] == (2 + 2 + 2) * numbers + 4 * (9 + 1 + 2) * channels
    products = (2 + 2 + 2) if channels == CHANNELS else (2 + 8) + (8 + 2 + 2)
    parameters = 2 * 2 * weight + 4 * (4 * channels + channels)
    assert moved[MATMUL] == products * numbers + parameters
    assert moved[ELEMENTWISE] == (4 + 2) * 2 * weight
    assert moved[GELU] == 0
    assert work[MATMUL] == 2 * SIZE**2 * weight
    assert work[DEPTHWISE] == 9 * numbers


def test_the_backward_pass_has_twice_the_products_of_the_forward_pass():
    products = {
        mode: by_kind(
            trace_step(OneBlock('torch'), Case(mode, 'bfloat16', 1, 8, 8)), 'multiply_adds'
        )
        for mode in ('inference', 'train')
    }
    assert products['train'][MATMUL] == 3 * products['inference'][MATMUL] > 0


def test_nothing_of_it_stays():
    before = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
    trace_step(OneBlock('triton'), CASE)
    assert (torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')) == before
    assert not torch.__future__.get_overwrite_module_params_on_conversion()
    assert nn.Linear(2, 2).weight.device.type == 'cpu'


@pytest.mark.parametrize(
    'name', ['pyramid-micro+triton', 'weightformer-tiny+torch', 'swin-tiny', 'convnext_tiny']
)
def test_every_kind_of_network_trains(name):
    (contender,) = parse_contenders([name])
    case = Case('train', 'bfloat16', 2, 96, 128)
    launches = trace_step(contender.build(), case)
    work = sum(launch.multiply_adds for launch in launches)
    if name == 'convnext_tiny':  # has no products that are not counted
        assert work == pytest.approx(contender.multiply_adds(case), rel=0.05)
    assert work > 0 and all(launch.bytes > 0 for launch in launches)


@locked('torch', 'timm', 'triton')
def test_the_page_has_what_the_tool_counts(tmp_path):
    tools = Tools(tmp_path)
    case = ('--shape', '1024', '1024')
    tools.run('benchmark', 'trace', 'pyramid-tiny+triton', *case, '--out', 'plan').ok()
    with (ROOT / 'docs/benchmarks/gpu_plan.csv').open() as file:
        stored = [row for row in csv.DictReader(file) if row['network'] == 'pyramid-tiny+triton']
    with (tmp_path / 'plan.csv').open() as file:
        counted = list(csv.DictReader(file))
    assert tuple(counted[0]) == COLUMNS and counted[0]['kind'] == ALL
    assert counted == [
        row for row in stored if row['mode'] == 'inference' and row['height'] == '1024'
    ]
    page = (ROOT / 'docs/benchmarks/gpu_plan.md').read_text()
    line = next(
        row for row in (tmp_path / 'plan.md').read_text().splitlines() if '| pyramid-tiny' in row
    )
    assert line in page


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['pyramid-tiny+compile'], 'pyramid-tiny+compile: compiled code has no single operations'),
        (
            ['published-tiny', '--shape', '64', '96'],
            'published-tiny at 64x96: takes square images only',
        ),
        (['pyramid-tiny', '--batch', '0'], '--batch and --shape: expected positive numbers'),
        (['pyramid-tiny', '--launch-us', '0'], '--launch-us 0.0: expected a positive number'),
    ],
)
def test_bad_input(arguments, message, tmp_path):
    assert message in Tools(tmp_path).run('benchmark', 'trace', *arguments).error_line()


BATCH = 2


class Watcher(TorchDispatchMode):
    """Notes float32 tensors as large as a map, and whatever makes the host wait for the GPU."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.large, self.waits = numbers, set(), set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        name = function._schema.name
        if name in ('aten::_local_scalar_dense', 'aten::nonzero', 'aten::is_nonzero'):
            self.waits.add(name)
        for leaf in tree_leaves((args, kwargs, outputs)):
            if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float32:
                if leaf.numel() >= self.numbers and leaf.shape[0] == BATCH:
                    self.large.add((name, tuple(leaf.shape)))
        return outputs


@pytest.mark.parametrize('mode', ['inference', 'train'])
def test_maps_are_in_half_precision_and_nothing_waits(mode):
    """Under autocast, only the image and the predictions' hidden layers are large and in float32."""
    size = 256
    (contender,) = parse_contenders(['pyramid-micro+triton'])
    model = contender.build()
    watcher = Watcher(BATCH * 192 * (size // 32) ** 2)  # the smallest map
    forward = model.forward

    def watched(images):
        with watcher:
            return forward(images)

    model.forward = watched
    trace_step(model, Case(mode, 'bfloat16', BATCH, size, size))
    assert watcher.waits == set()
    maps = {shape for _, shape in watcher.large if len(shape) == 4}
    assert maps == {(BATCH, 3, size, size), (BATCH, size, size, 3)}
    others = {name for name, shape in watcher.large if len(shape) != 4}
    others -= {'aten::detach', 'prim::device'}
    # pooled tokens, their hidden layers, and the update of a weight
    assert others == {'weightformer_mm::bilateral_mlp'}


BOUNDS = {  # mode, side → launches, bytes, least ms
    ('inference', 1024): (140, 1.5e9, 0.70),
    ('inference', 2048): (130, 6.0e9, 1.5),
    ('train', 1024): (420, 7e9, 2.2),
    ('train', 2048): (420, 22e9, 6.0),
}


@pytest.mark.parametrize(('mode', 'side'), BOUNDS)
def test_a_step_of_the_pyramid_stays_small(mode, side):
    """What the page says, which is compared with a count above."""
    with (ROOT / 'docs/benchmarks/gpu_plan.csv').open() as file:
        rows = {
            row['network']: row
            for row in csv.DictReader(file)
            if (row['mode'], row['height'], row['kind']) == (mode, str(side), ALL)
        }
    ours, limits = rows['pyramid-tiny+triton'], BOUNDS[mode, side]
    found = int(ours['launches']), int(ours['bytes']), float(ours['least_ms'])
    assert all(value <= limit for value, limit in zip(found, limits)), found
    least = {name: float(row['least_ms']) for name, row in rows.items()}
    assert least['pyramid-tiny+triton'] < min(least['convnext_tiny'], least['swin-tiny'] / 2)
    isotropic = int(rows['weightformer-small+triton']['bytes'])
    assert isotropic <= int(rows['published-small']['bytes']) / 2
