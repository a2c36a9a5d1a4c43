"""Interleaving, on a clock that only counts."""

from __future__ import annotations

import pytest
import torch

from projects.benchmark.clock import interleave, rotated
from projects.benchmark.results import LOST
from projects.benchmark.steps import Step

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError('CUDA out of memory')


class FakeClock:
    """Each step of contender x takes as many milliseconds as ``speeds`` says; order is noted.

    With ``fatal``, nothing runs after a failure.
    """

    def __init__(self, speeds, fail=None, stop_after=None, error=OUT_OF_MEMORY, fatal=False):
        self.speeds, self.fail, self.stop_after = speeds, fail or {}, stop_after
        self.error, self.fatal, self.lost = error, fatal, False
        self.turns = []

    def is_usable(self):
        return not self.lost

    def step(self, name):
        return Step(lambda: name)

    def lead_in(self, step):
        pass

    def lead_out(self, step):
        pass

    def time(self, step, count):
        name = step.run()
        if self.stop_after is not None and len(self.turns) >= self.stop_after:
            raise KeyboardInterrupt
        self.turns.append((name, count))
        if self.fail.get(name, 10**9) <= sum(turn[0] == name for turn in self.turns):
            self.lost = self.fatal
            raise self.error
        return [self.speeds[name]] * count


def run(clock, **options):
    steps = {name: clock.step(name) for name in clock.speeds}
    options = {'rounds': 3, 'warmup': 1, **options}
    return interleave(steps, clock, **options)


def test_every_round_has_each_contender_once_in_rotating_order():
    clock = FakeClock({'a': 1.0, 'b': 2.0, 'c': 3.0})
    samples = run(clock)
    names = [name for name, _ in clock.turns]
    assert names == [*'abc', *'abc', *'bca', *'cab']
    assert samples.times == {'a': [1.0] * 3, 'b': [2.0] * 3, 'c': [3.0] * 3}


def test_a_turn_lasts_long_enough():
    clock = FakeClock({'a': 10.0, 'b': 300.0})
    run(clock, min_seconds=0.1, rounds=1, warmup=4)
    assert clock.turns == [('a', 3), ('a', 1), ('b', 3), ('b', 1), ('a', 10), ('b', 1)]


@pytest.mark.parametrize('turn', [1, 2, 3])
def test_a_contender_out_of_memory_drops_out_alone(turn):
    samples = run(FakeClock({'a': 1.0, 'b': 2.0}, fail={'b': turn}))
    assert samples.failures == {'b': 'out of memory'}
    assert samples.times == {'a': [1.0] * 3}


def test_any_other_failure_drops_out_alone():
    samples = run(FakeClock({'a': 1.0, 'b': 2.0}, fail={'b': 2}, error=IndexError('no such row')))
    assert samples.failures == {'b': 'IndexError: no such row'}
    assert samples.times == {'a': [1.0] * 3}


@pytest.mark.parametrize(
    ('turn', 'times', 'others'),
    [(1, {}, {'a': LOST, 'c': LOST}), (3, {'a': [1.0], 'c': [3.0]}, {})],
    ids=['at once', 'in the second round'],
)
def test_rounds_end_with_the_gpu_and_complete_ones_count(turn, times, others):
    error = RuntimeError('CUDA error: an illegal memory access was encountered')
    clock = FakeClock({'a': 1.0, 'b': 2.0, 'c': 3.0}, fail={'b': turn}, error=error, fatal=True)
    samples = run(clock)
    assert clock.turns[-1][0] == 'b'
    assert samples.failures == {'b': f'RuntimeError: {error}', **others}
    assert samples.times == times


def test_nothing_is_timed_on_a_gpu_that_is_lost():
    clock = FakeClock({'a': 1.0})
    clock.lost = True
    assert run(clock).failures == {'a': LOST} and not clock.turns


def test_complete_rounds_survive_an_interrupt():
    samples = run(FakeClock({'a': 1.0, 'b': 2.0}, stop_after=2 + 2 + 1))
    assert samples.interrupted
    assert samples.times == {'a': [1.0], 'b': [2.0]}
    samples = run(FakeClock({'a': 1.0, 'b': 2.0}, stop_after=1))
    assert samples.interrupted and samples.times == {'a': [], 'b': []}


def test_rotation():
    assert [rotated('abc', index) for index in (0, 1, 4)] == [[*'abc'], [*'bca'], [*'bca']]
    assert rotated([], 3) == []
