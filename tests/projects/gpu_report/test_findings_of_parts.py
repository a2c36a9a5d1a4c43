"""What parts conclude from what they see: right and wrong networks, maps, tests and counters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from projects.benchmark.operations import Operation, Stage
from projects.gpu_report import kernel_tests, large_maps, networks
from projects.gpu_report.counters import parse
from projects.gpu_report.findings import Findings, read, start_file
from projects.gpu_report.options import PartOptions


@pytest.fixture
def options(tmp_path):
    start_file(tmp_path)
    findings = Findings(tmp_path, 'it', 'here')
    return PartOptions(findings, tmp_path, tmp_path, '', True, torch.device('cpu'))


def verdicts(options):
    return {row['what']: row['verdict'] for row in read(options.out)}


def exact():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(50, generator=generator, dtype=torch.float64) for _ in range(4)]


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda x: x * (1 + 1e-3), 'ok'),
        (lambda x: x * (1 + 3e-2), 'FAILED'),
        (lambda x: torch.where(torch.arange(50) == 7, float('nan'), x), 'FAILED'),
        (lambda x: torch.zeros_like(x), 'FAILED'),
    ],
    ids=['as PyTorch', 'far', 'unwritten', 'zero'],
)
def test_triton_may_be_twice_as_far_off_as_pytorch(options, monkeypatch, change, expected):
    def results(subject, state, backend, dtype, device):
        tensors = exact()
        if dtype != 'float64':
            tensors = [x * (1 + 1e-3) for x in tensors]
        if backend == 'triton':  # the last gradient
            tensors[-1] = change(exact()[-1])
        return tensors[:2], tensors[2:]

    monkeypatch.setattr(networks, 'results', results)
    networks.compare(networks.TINY[1], ['bfloat16'], options)
    assert list(verdicts(options).values()) == ['ok', expected]


def test_a_gradient_that_cancels_is_not_compared_with_itself():
    tiny = [torch.full((3,), 1e-12), torch.ones(3)]
    assert networks.largest_error([torch.zeros(3), torch.ones(3)], tiny) < 1e-8
    assert networks.largest_error([torch.full((3,), 0.1), torch.ones(3)], tiny) > 1


def test_a_kernel_that_fails_is_a_finding_and_the_next_precision_follows(options, monkeypatch):
    def results(subject, state, backend, dtype, device):
        if backend == 'triton' and dtype == 'float32':
            raise ValueError('out of resources')
        return exact()[:2], exact()[2:]

    monkeypatch.setattr(networks, 'results', results)
    networks.compare(networks.TINY[1], ['float32', 'bfloat16'], options)
    assert list(verdicts(options).values()) == ['FAILED', 'ok', 'ok']


def double(x, weight, backend='auto'):
    return x * weight * 2


def lost_count(x, weight, backend='auto'):
    """Wrong behind a number of elements, as with an index of too few bits."""
    y = x * weight * 2
    y = y.flatten()
    keep = torch.arange(len(y)) < 200
    return torch.where(keep, y, 0).view(x.shape)


@pytest.mark.parametrize(('function', 'expected'), [(double, 'ok'), (lost_count, 'FAILED')])
def test_both_images_of_a_large_map_are_as_each_alone(options, function, expected):
    operation = Operation(lambda stage: [stage.shape, (stage.channels,)], function)
    large_maps._compare('double', operation, Stage('large', large_maps.TINY), options)
    assert verdicts(options) == {'double': expected}


LINES = """\
[gw3] [  1%] PASSED tests/ops/interpreted/test_a.py::test_one[(1, 2, 3)-torch.float32]
[gw0] [  2%] FAILED tests/ops/interpreted/test_a.py::test_two[a b]
tests/ops/test_b.py::test_three[x y] PASSED [ 50%]
tests/ops/test_b.py::test_four SKIPPED (needs a GPU) [ 60%]
FAILED tests/ops/interpreted/test_a.py::test_two[a b] - AssertionError: error 1
""".splitlines(keepends=True)


def test_tests_are_counted_as_they_end():
    count = kernel_tests.Count()
    count.read(LINES[:3])
    assert count.number('PASSED') == 2 and len(count.failed) == 1 and not count.reasons
    count.read(LINES[3:])
    assert count.number('SKIPPED') == 1 and len(count.outcomes) == 4
    (name,) = count.failed
    assert count.reasons[name] == 'AssertionError: error 1'


@pytest.mark.parametrize(
    ('lines', 'code', 'first'), [(LINES, 1, 'FAILED'), (LINES[:1], 0, 'ok'), ([], 4, 'FAILED')]
)
def test_what_pytest_says_becomes_findings(options, lines, code, first):
    count = kernel_tests.Count()
    count.read(lines)
    kernel_tests._report(options, count, code)
    found = verdicts(options)
    assert found.pop('tests that passed') == first
    assert list(found.values()) == ['FAILED'] * len(count.failed)


def test_the_command_names_tests_that_exist():
    for rehearse in (True, False):
        words = kernel_tests.command(rehearse)
        paths = [word for word in words if word.startswith('tests/')]
        assert paths and all(Path(path).exists() for path in paths)


COUNTERS = """\
==PROF== Connected to process 12
"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","pool_kernel","","gpu__time_duration.sum","us","1,204.50"
"1","pool_kernel","","gpu__time_duration.sum","us","1,205.50"
"1","pool_kernel","","launch__registers_per_thread","register/thread","64"
"2","pool_kernel","","launch__registers_per_thread","register/thread","n/a"
"2","pool_kernel","","something_else","","1"
""".splitlines()


def test_counters_are_means_over_launches():
    assert parse(COUNTERS) == {
        ('pool_kernel', 'gpu__time_duration.sum'): (1205.0, 'us', 2),
        ('pool_kernel', 'launch__registers_per_thread'): (64.0, 'register/thread', 1),
    }
    assert parse(['==ERROR== ERR_NVGPUCTRPERM']) == {}
