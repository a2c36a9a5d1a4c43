"""Parts that are small programs, and what is left of them when they fail or take too long."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from projects.benchmark import results as benchmark
from projects.gpu_report import runner as module
from projects.gpu_report.findings import read, start_file
from projects.gpu_report.plan import Part, Plan, without
from projects.gpu_report.runner import BECAUSE, LOG, Runner, lost_by


def python(text, name='it', seconds=60.0, **more):
    return Part(name, seconds, ('-c', text), **more)


@dataclass(frozen=True)
class Stages(Plan):
    """A plan of given stages."""

    given: tuple = ()

    def stages(self):
        return self.given


def run(tmp_path, *stages, seconds=60.0, rehearse=False, only=()):
    start_file(tmp_path)
    plan = Stages(tmp_path, tmp_path, tmp_path, rehearse, stages)
    Runner(plan, time.monotonic() + module.GRACE + seconds).run(only)
    return {row['part']: row for row in read(tmp_path)}


def test_what_a_part_says_is_in_the_log_and_how_it_ended_among_the_findings(tmp_path):
    parts = [python('print("hello")'), python('import sys; sys.exit("no")', 'bad')]
    found = run(tmp_path, parts)
    assert (found['it']['verdict'], found['it']['detail']) == ('ok', 'exit code 0')
    assert (found['bad']['verdict'], found['bad']['detail']) == ('FAILED', 'exit code 1')
    assert set((tmp_path / LOG).read_text().splitlines()) == {'[it] hello', '[bad] no'}


def test_parts_of_a_stage_run_at_the_same_time_and_stages_one_after_the_other(tmp_path):
    wait = (
        'import pathlib, time\npathlib.Path({0!r}).touch()\n'
        'while not pathlib.Path({1!r}).exists():\n    time.sleep(0.01)\n'
    )
    names = ['a', 'b']
    together = [python(wait.format(name, other), name) for name, other in zip(names, names[::-1])]
    after = [python('import pathlib; assert pathlib.Path("a").exists()', 'after')]
    found = run(tmp_path, together, after)
    assert {row['verdict'] for row in found.values()} == {'ok'}


SLEEP = 'import time\nprint("begun", flush=True)\ntime.sleep(60)\n'
DEAF = f'import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{SLEEP}'


@pytest.mark.parametrize(
    ('text', 'word'), [(SLEEP, 'interrupted'), (DEAF, 'killed')], ids=['hears', 'deaf']
)
def test_a_part_that_takes_too_long_is_ended_and_the_next_begins(tmp_path, monkeypatch, text, word):
    monkeypatch.setattr(module, 'GRACE', 1.5)
    stages = [python(text, 'slow', seconds=1.0)], [python('print("next")', 'next')]
    found = run(tmp_path, *stages)
    assert found['slow']['verdict'] == 'FAILED' and found['slow']['detail'].startswith(word)
    assert found['next']['verdict'] == 'ok'


def test_ctrl_c_lets_a_part_save_what_it_has(tmp_path):
    text = (
        'import time\ntry:\n    print("begun", flush=True)\n    time.sleep(60)\n'
        'except KeyboardInterrupt:\n    print("saved")\n'
    )
    run(tmp_path, [python(text, seconds=1.0)])
    assert '[it] saved' in (tmp_path / LOG).read_text()


def test_what_no_time_is_left_for_and_what_no_cpu_can_do_is_said(tmp_path):
    found = run(tmp_path, [python('print()')], seconds=1.0)
    assert (found['it']['verdict'], found['it']['detail']) == ('not run', 'no time is left')
    found = run(tmp_path, [python('print()', not_on_cpu='takes minutes')], rehearse=True)
    assert (found['it']['verdict'], found['it']['detail']) == ('not run', 'takes minutes')


def test_only_some_parts(tmp_path):
    assert set(run(tmp_path, [python('', 'a')], [python('', 'b')], only=('b',))) == {'b'}


def test_a_long_log_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'MOST_LOG', 100)
    run(tmp_path, [python('for _ in range(100):\n    print("x" * 20)')])
    assert (tmp_path / LOG).stat().st_size < 150


NOTES = {
    'a': '',
    'b': 'AcceleratorError: CUDA error: an illegal memory access',
    'c': benchmark.LOST,
}


def test_what_a_lost_gpu_kept_from_being_measured_is_tried_again_without_the_culprit(tmp_path):
    rows = [*NOTES.items()]
    text = (
        'import csv, sys\nfile = open("rows.csv", "a")\nwriter = csv.writer(file)\n'
        f'if "b" in sys.argv:\n    writer.writerows([["contender", "note"], *{rows!r}])\n'
        'print("with", sys.argv[1:])\n'
    )
    arguments = ('-c', text, '--contenders', 'a', 'b', 'c', '--rounds', '5')
    found = run(tmp_path, [Part('it', 60.0, arguments, contenders=tuple('abc'))])
    assert set(found) == {'it', 'it again'}
    log = (tmp_path / LOG).read_text()
    assert "['--contenders', 'a', 'c', '--rounds', '5', '--resume']" in log


def test_whose_failure_lost_the_gpu():
    rows = [dict(contender=name, note=note) for name, note in NOTES.items()]
    assert lost_by(rows) == 'b' and lost_by(rows[:2]) is None
    assert benchmark.LOST.startswith(BECAUSE)
    part = Part('it', 1.0, ('x', '--contenders', 'a', 'b'), contenders=('a', 'b'))
    assert without(part, 'b').contenders == ('a',)


def test_a_run_that_is_stopped_leaves_no_process(tmp_path, monkeypatch):
    started = []
    original = module.subprocess.Popen

    def popen(*args, **kwargs):
        started.append(original(*args, **kwargs))
        return started[-1]

    join, calls = module.Thread.join, []

    def stop(thread, *args):
        calls.append(thread)
        if len(calls) > 1:
            return join(thread, *args)
        while not started:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.subprocess, 'Popen', popen)
    monkeypatch.setattr(module.Thread, 'join', stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [python(SLEEP)], [python('print()', 'next')])
    assert len(started) == 1 and started[0].returncode < 0
    assert [row['part'] for row in read(tmp_path)] == ['it']
