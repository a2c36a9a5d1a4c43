"""Interleaving, on a clock that only counts."""

from __future__ import annotations

import pytest
import torch

from projects.benchmark.clock import interleave, rotated
from projects.benchmark.steps import Step

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError('CUDA out of memory')


class FakeClock:
    """Each step of contender x takes as many milliseconds as ``speeds`` says; order is noted."""

    def __init__(self, speeds, fail=None, stop_after=None, error=OUT_OF_MEMORY):
        self.speeds, self.fail, self.stop_after = speeds, fail or {}, stop_after
        self.error = error
        self.turns = []

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


def test_other_errors_are_raised():
    with pytest.raises(IndexError):
        run(FakeClock({'a': 1.0}, fail={'a': 2}, error=IndexError()))


def test_complete_rounds_survive_an_interrupt():
    samples = run(FakeClock({'a': 1.0, 'b': 2.0}, stop_after=2 + 2 + 1))
    assert samples.interrupted
    assert samples.times == {'a': [1.0], 'b': [2.0]}
    samples = run(FakeClock({'a': 1.0, 'b': 2.0}, stop_after=1))
    assert samples.interrupted and samples.times == {'a': [], 'b': []}


def test_rotation():
    assert [rotated('abc', index) for index in (0, 1, 4)] == [[*'abc'], [*'bca'], [*'bca']]
    assert rotated([], 3) == []
