"""Measuring small networks for real; what times they have is of no interest here."""

from __future__ import annotations

import sys

import pytest
import torch

from projects.benchmark import measure, memory
from projects.benchmark.ceilings import CeilingGauge, Ceilings
from projects.benchmark.clock import failure_of
from projects.benchmark.contenders import Contender, parse_contenders
from projects.benchmark.measure import (
    Method,
    largest_batch,
    measure_group,
    quantiles,
    speed_ratio,
)
from projects.benchmark.memory import Peak, can_measure_processes, peak_in_process
from projects.benchmark.memory_process import measure_peak, subject_from
from projects.benchmark.results import Results
from projects.benchmark.steps import Case, backbone_step, make_images
from projects.benchmark.subjects import Subject
from tests.helpers import formulas, needs
from tests.helpers.commands import warm_python
from weightformer_mm.errors import RunFailed, UserError
from weightformer_mm.layers.pattern import is_dynamic

CPU = torch.device('cpu')
CEILINGS = Ceilings(multiply_adds_per_s=2e12, bytes_per_s=1e9)
needs_proc = pytest.mark.skipif(not can_measure_processes(), reason='no /proc')


def method(**changes):
    options = dict(
        device=CPU,
        rounds=2,
        warmup=1,
        min_seconds=0.0,
        memory=False,
        machine={'commit': 'abc', 'device': 'here', 'threads': 1},
        ceilings=CEILINGS,
    )
    return Method(**{**options, **changes})


def case(mode='inference', height=32, width=48, **changes):
    return Case(mode, 'float32', 1, height, width, **changes)


def subjects(*names):
    return parse_contenders(names)


def micro_multiply_adds(height, width):
    dynamic = [[is_dynamic(3 * stage + block) for block in range(3)] for stage in range(4)]
    return formulas.pyramid_weightformer(height, width, (32, 64, 128, 192), dynamic)


@pytest.mark.parametrize(('mode', 'factor'), [('inference', 1), ('train', 3)])
def test_rows_hold_times_work_and_shares(mode, factor):
    results = Results()
    measure_group(
        subjects('pyramid-micro', 'plain-pyramid-micro'), case(mode), 2, method(), results
    )
    first, second = results.new
    assert (first['contender'], first['mode'], first['batch']) == ('pyramid-micro', mode, '2')
    assert (first['height'], first['width'], first['rounds']) == ('32', '48', '2')
    work = 2 * factor * micro_multiply_adds(32, 48)
    assert int(first['multiply_adds']) == work
    seconds = float(first['median_ms']) / 1e3
    assert float(first['images_per_s']) == pytest.approx(2 / seconds, rel=1e-4)
    rate = work / seconds
    assert float(first['tera_multiply_adds_per_s']) == pytest.approx(rate / 1e12, rel=1e-4)
    assert float(first['share_of_matmul']) == pytest.approx(rate / 2e12, rel=1e-4)
    assert first['speed_ratio'] == '1' and second['ratio_to'] == 'pyramid-micro'
    assert first['parameters'] == second['parameters']
    assert float(first['p20_ms']) <= float(first['median_ms']) <= float(first['p80_ms'])
    assert first['note'] == first['bytes'] == ''


def test_what_a_contender_cannot_do_is_a_row():
    results = Results()
    measure_group(subjects('published-tiny', 'pyramid-micro'), case(), 1, method(), results)
    refused, done = results.new
    assert refused['contender'] == 'published-tiny' and 'square' in refused['note']
    assert refused['median_ms'] == ''
    assert done['median_ms'] and done['speed_ratio'] == ''


class OutOfMemory(Contender):
    def step(self, model, case, device):
        step = super().step(model, case, device)

        def run():
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')

        step.run = run
        return step


def test_out_of_memory_is_a_row():
    results = Results()
    entrants = [*subjects('pyramid-micro'), OutOfMemory('pyramid-nano')]
    measure_group(entrants, case(), 1, method(), results)
    failed, done = results.new
    assert failed['contender'] == 'pyramid-nano' and failed['note'] == 'out of memory'
    assert done['contender'] == 'pyramid-micro' and done['median_ms']


class Broken(Contender):
    """Fails when it is built, or with ``late`` when its work is counted."""

    late = False

    def build(self):
        if self.late:
            return super().build()
        raise IndexError('no such row')

    def multiply_adds(self, case):
        raise IndexError('no such formula')


class Uncounted(Broken):
    late = True


def test_any_exception_is_a_row_and_no_end():
    results = Results()
    entrants = [Broken('pyramid-micro'), *subjects('pyramid-nano'), Uncounted('pyramid-micro')]
    measure_group(entrants, case(), 1, method(), results)
    broken, done, uncounted = results.new
    assert broken['note'] == 'IndexError: no such row' and not broken['median_ms']
    assert done['median_ms'] and not done['note']
    assert uncounted['median_ms'] and uncounted['note'].endswith('IndexError: no such formula')


def test_a_library_that_is_missing_is_a_row(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    results = Results()
    measure_group(subjects('swin-tiny', 'pyramid-micro'), case(), 1, method(), results)
    missing, done = results.new
    assert missing['note'].startswith('mmdet, which') and done['median_ms']


def test_reasons_are_one_line():
    def broken(graph, inputs):
        raise TypeError('cannot determine truth value')

    with pytest.raises(Exception) as compiled:
        torch.compile(torch.sin, backend=broken)(torch.ones(1))
    reason = failure_of(compiled.value)
    assert reason.startswith('torch.compile failed: BackendCompilerFailed: ')
    assert reason.endswith('cannot determine truth value') and '\n' not in reason
    assert failure_of(torch.cuda.OutOfMemoryError('CUDA out of memory')) == 'out of memory'
    assert failure_of(RuntimeError('CUDA error: lost\n\nmore')) == 'RuntimeError: CUDA error: lost '
    assert failure_of(UserError('takes\nsquares')) == 'takes squares'
    assert failure_of(TypeError()) == 'TypeError: '


def test_training_steps_repeat_and_give_every_parameter_a_gradient():
    model = subjects('pyramid-micro')[0].build()
    step = backbone_step(model, case('train'), CPU)
    step.run()
    first = [parameter.grad.clone() for parameter in model.parameters()]
    assert all(gradient.abs().sum() > 0 for gradient in first)
    step.reset()
    assert all(parameter.grad is None for parameter in model.parameters())
    step.release()
    step.run()  # images and upstream gradients are made anew, and the same
    for parameter, gradient in zip(model.parameters(), first):
        torch.testing.assert_close(parameter.grad, gradient)


def test_images_are_made_once_per_size_and_for_both_modes():
    step = {mode: case(mode, 40, 56) for mode in ('inference', 'train')}
    seen = []
    for name in ('pyramid-micro', 'plain-pyramid-micro'):
        model = subjects(name)[0].build()
        model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        for mode in ('inference', 'train'):
            backbone_step(model, step[mode], CPU).run()
    assert len(seen) == 4 and all(images is seen[0] for images in seen)
    assert make_images(case(height=48), CPU).shape == (1, 3, 48, 48)


@pytest.mark.parametrize('dtype', ['bfloat16', pytest.param('float16', marks=needs.float16.marks)])
@pytest.mark.parametrize('mode', ['inference', 'train'])
def test_pure_half_precision_is_that_of_weights_images_and_maps(dtype, mode):
    (pure,) = subjects('plain-pyramid-micro+pure')
    model = pure.build()
    seen = set()

    def see(module, args, maps):
        assert not torch.is_autocast_cpu_enabled()
        seen.update(x.dtype for x in maps)

    model.register_forward_hook(see)
    model.register_forward_pre_hook(lambda module, args: seen.add(args[0].dtype))
    pure.step(model, Case(mode, dtype, 1, 32, 32), CPU).run()
    seen |= {parameter.dtype for parameter in model.parameters()}
    assert seen == {getattr(torch, dtype)}


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_half_precision_is_autocast(dtype):
    seen = []
    model = subjects('pyramid-micro')[0].build()
    linear = model.stages[0].blocks[0].linear1
    linear.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    backbone_step(model, Case('inference', dtype, 1, 32, 32), CPU).run()
    # the layer may be computed without being called, but not in another dtype
    assert set(seen) <= {getattr(torch, dtype)}


@pytest.mark.parametrize('most', [1, 2, 3, 7, 8, 37])
def test_largest_batch(most):
    tried = []

    def fits(images):
        tried.append(images)
        return images <= most

    assert largest_batch(fits) == most
    assert len(tried) == len(set(tried))


def test_no_batch_fits():
    with pytest.raises(RunFailed, match='out of memory'):
        largest_batch(lambda images: False)


def test_subjects_survive_the_way_to_another_process():
    (subject,) = subjects('pyramid-micro+cp')
    assert subject_from(subject.spec()) == subject


class Allocates(Subject):
    """Its step touches so many MiB."""

    name = 'allocates'

    def __init__(self, mebi):
        self.mebi = mebi

    def spec(self):
        return {}

    def build(self):
        return torch.nn.Identity()

    def step(self, model, case, device):
        step = backbone_step(model, Case('inference', 'float32', 1, 8, 8), device)
        step.run = lambda: torch.ones(self.mebi, 2**18).sum()
        return step

    def multiply_adds(self, case):
        return None


@pytest.fixture
def warm(monkeypatch, tmp_path):
    """The other process is a fork of the warm one; `tools/test_benchmark.py` has it start anew."""
    monkeypatch.setattr(sys, 'executable', str(warm_python(tmp_path)))


@needs_proc
def test_peak_is_what_a_step_takes():
    threads = torch.get_num_threads()
    measure_peak(Allocates(300), case())  # an earlier peak must not count
    peak = measure_peak(Allocates(100), case(threads=threads))
    assert 99 <= peak.peak_mib <= 130
    assert peak.baseline_mib > 50


@needs_proc
def test_memory_is_measured_in_another_process(warm):
    peak = peak_in_process({'backbone': 'pyramid-micro'}, case('train', 256, 256))
    assert isinstance(peak, Peak)
    # the hidden map of the first stage alone is 4096 x 128 numbers, once per block and before GELU
    assert peak.peak_mib > 2 * 3 * 4096 * 128 * 4 / 2**20


@needs_proc
def test_a_process_is_stopped_before_it_takes_all_memory(monkeypatch):
    monkeypatch.setattr(memory, 'available_memory', lambda: 50 * 2**20)
    results = Results()
    measure_group(subjects('pyramid-micro'), case(), 1, method(memory=True), results)
    (row,) = results.new
    assert row['note'] == 'out of memory: stopped above 45 MiB' and row['median_ms'] == ''


def test_a_process_that_fails_says_why(warm):
    assert "unknown 'nothing'" in peak_in_process({'backbone': 'nothing'}, case())


def test_fill_is_one_image_on_a_cpu():
    results = Results()
    measure_group(subjects('pyramid-micro'), case(), measure.FILL, method(), results)
    assert results.new[0]['batch'] == '1'


def test_ceilings_only_rise_in_a_run():
    gauge = CeilingGauge(CPU, 'float32', side=64, size=2**16)
    first, second = gauge.measure(), gauge.measure()
    assert second.multiply_adds_per_s >= first.multiply_adds_per_s > 0
    assert second.bytes_per_s >= first.bytes_per_s > 0
    assert CEILINGS.least_seconds(4e12, 1e9) == 2 and CEILINGS.least_seconds(0, 3e9) == 3


def test_quantiles():
    assert quantiles([5.0, 1.0, 3.0, 2.0, 4.0, 0.0]) == {
        'median_ms': 2.5,
        'p20_ms': 1.0,
        'p80_ms': 4.0,
    }


def test_ratios_are_taken_round_by_round():
    # the machine is ten times as slow in two rounds: the medians' ratio would be 0.4
    times, reference = [1.0, 10.0, 5.0], [2.0, 20.0, 2.0]
    assert speed_ratio(times, reference) == 2.0
    assert speed_ratio(times, reference, images=4.0) == 8.0
