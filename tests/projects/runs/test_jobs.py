from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from projects.runs.jobs import Job, run_together
from tests.helpers.commands import WITHOUT_LIBRARIES, running
from weightformer_mm.errors import RunFailed


def write_script(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_jobs_run_at_the_same_time_with_a_share_of_the_cores(tmp_path):
    # each waits for the file that the other writes
    text = (
        'import os, pathlib, sys, time\n'
        'mine, other = map(pathlib.Path, sys.argv[1:])\n'
        'mine.write_text(os.environ["OMP_NUM_THREADS"])\n'
        'while not other.exists(): time.sleep(0.05)\n'
        'print("done")\n'
    )
    script = str(write_script(tmp_path, 'wait.py', text))
    jobs = [
        Job([script, 'a', 'b'], tmp_path / 'logs' / 'a.log'),
        Job([script, 'b', 'a'], tmp_path / 'logs' / 'b.log'),
    ]
    run_together(jobs, tmp_path)
    assert [job.log.read_text() for job in jobs] == ['done\n', 'done\n']
    assert int((tmp_path / 'a').read_text()) == max(1, len(os.sched_getaffinity(0)) // 2)


def test_a_failure_names_the_tool_and_stops_the_others(tmp_path):
    failing = write_script(
        tmp_path, 'failing.py', 'import sys; print("step"); sys.exit("bad weather")'
    )
    text = 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'
    endless = write_script(tmp_path, 'endless.py', text)
    jobs = [
        Job([str(endless)], tmp_path / 'endless.log'),
        Job([str(failing)], tmp_path / 'failing.log'),
    ]
    with pytest.raises(
        RunFailed, match=r'failing\.py failed with code 1: bad weather .*failing\.log'
    ):
        run_together(jobs, tmp_path, watch=lambda: wait_for_text(jobs[0].log))
    with pytest.raises(ProcessLookupError):
        os.kill(int(jobs[0].log.read_text()), 0)


def wait_for_text(path):
    while not path.read_text():
        time.sleep(0.05)


def test_sigterm_takes_the_processes_of_the_demo_along(tmp_path):
    """tools/demo.py without libraries, and with an endless job in place of the trainings."""
    endless = write_script(
        tmp_path,
        'endless.py',
        'import os, time; print(os.getpid(), flush=True); time.sleep(600)',
    )
    log = tmp_path / 'endless.log'
    frame = (
        f'{WITHOUT_LIBRARIES}import pathlib, types\n'
        'from projects.runs.jobs import Job, run_together\n'
        f'job = Job([{str(endless)!r}], pathlib.Path({str(log)!r}))\n'
        'run_demo = lambda *args: run_together([job], pathlib.Path("."))\n'
        'sys.modules["projects.demo"] = types.SimpleNamespace(run_demo=run_demo, ship=None)\n'
        f'{running("demo")}'
    )
    demo = subprocess.Popen([sys.executable, '-c', frame, '--out', str(tmp_path / 'out')])
    while not (log.exists() and log.read_text().strip()):
        assert demo.poll() is None
        time.sleep(0.05)
    demo.terminate()
    assert demo.wait(timeout=60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


def test_some_wait_and_all_report_what_they_took(tmp_path):
    text = (
        'import os, pathlib, sys, time\n'
        'lock = pathlib.Path("running")\n'
        'lock.touch(exist_ok=False)\n'  # fails where another one runs
        'end = time.process_time() + 0.2\n'
        'while time.process_time() < end: pass\n'
        'lock.unlink()\n'
        'print(os.environ["OMP_NUM_THREADS"])\n'
    )
    script = str(write_script(tmp_path, 'alone.py', text))
    jobs = [Job([script], tmp_path / f'{index}.log') for index in range(3)]
    took = {}
    run_together(
        jobs,
        tmp_path,
        at_once=1,
        threads=3,
        finished=lambda job, usage: took.update({job.log.name: usage}),
    )
    assert [job.log.read_text() for job in jobs] == ['3\n'] * 3
    assert set(took) == {job.log.name for job in jobs}
    for usage in took.values():
        assert 0.2 <= usage.cpu_seconds < usage.seconds + 0.5


def test_with_keep_going_the_others_run_before_the_failure_is_said(tmp_path):
    failing = write_script(tmp_path, 'failing.py', 'import sys; sys.exit("bad weather")')
    fine = write_script(tmp_path, 'fine.py', 'print("done")')
    scripts = [failing, fine, failing]
    jobs = [Job([str(script)], tmp_path / f'{i}.log') for i, script in enumerate(scripts)]
    done = []
    with pytest.raises(RunFailed, match=r'bad weather.*0\.log.*; failing.*2\.log'):
        run_together(
            jobs,
            tmp_path,
            at_once=1,
            finished=lambda job, usage: done.append(job),
            keep_going=True,
        )
    assert done == [jobs[1]]


def test_what_follows_a_job_runs_beside_the_others(tmp_path):
    text = (
        'import pathlib, sys, time\n'
        'mine, other = sys.argv[1:]\n'
        'while other != "none" and not pathlib.Path(other).exists(): time.sleep(0.05)\n'
        'pathlib.Path(mine).touch()\n'
    )
    script = str(write_script(tmp_path, 'follow.py', text))
    # the long one ends only when what follows the short one has run
    short, long, following = (
        Job((script, mine, other), tmp_path / f'{mine}.log')
        for mine, other in (('short', 'none'), ('long', 'following'), ('following', 'short'))
    )
    done = []

    def finished(job, usage):
        done.append(job)
        return following if job is short else None

    run_together([short, long], tmp_path, finished=finished)
    assert done[0] is short
    assert set(done[1:]) == {following, long}
