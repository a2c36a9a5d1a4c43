"""Runs as processes on a few generated pictures: killed, continued, recorded once."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from projects.real_pictures import campaign
from projects.real_pictures.campaign import Training, read_records, run_campaign
from projects.real_pictures.plan import Run
from tests.helpers.commands import Fork
from tests.helpers.real_layouts import make_camvid
from weightformer_mm.errors import RunFailed, UserError

# One run of the short protocol on small images with a narrow network, three epochs of two iterations.
SMALL = """
import sys
from pathlib import Path

from projects.real_pictures import one_run, plan
from tests.helpers.harm import HarmHook
from tests.helpers.reduced import reduce_backbone, reduce_counts, reduce_sizes
from weightformer_mm.config.options import use_data_root

whole = plan.Run.load_config


def small(run):
    cfg = whole(run)
    use_data_root(cfg, {data!r})
    reduce_sizes(cfg, 0.3)
    reduce_backbone(cfg.model)
    reduce_counts(cfg.model)
    cfg.model.backbone.drop_path_rate = 0.5  # draws random numbers in every iteration
    cfg.train_dataloader.batch_size = 2
    cfg.max_epochs = cfg.train_cfg.max_epochs = 3
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
    cfg.custom_hooks = [dict(type='HarmHook')]
    return cfg


plan.Run.load_config = small
one_run.SHAPES['camvid'] = (64, 96)
one_run.main(plan.Run('camvid'), Path(sys.argv[1]), Path(sys.argv[2]), ['abc'])
"""


@pytest.fixture
def run_small(tmp_path):
    make_camvid(tmp_path / 'camvid', train=4, val=2, size=(48, 64))
    script = tmp_path / 'small.py'
    script.write_text(SMALL.format(data=str(tmp_path / 'camvid')))

    def run(name, harm=None):
        argv = [str(script), name, f'{name}.json']
        env = {'PYTHONPATH': str(campaign.RESULTS.parents[2]), 'HARM': json.dumps(harm or {})}
        return Fork(argv, tmp_path, env).wait()

    return run


def test_a_killed_run_ends_with_the_same_numbers(run_small, tmp_path):
    run_small('whole').ok()
    killed = run_small('killed', {'deed': 'kill', 'iteration': 3})  # in the second epoch
    assert killed.code == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.glob('killed/*.pth')) == ['epoch_1.pth']
    run_small('killed').ok()
    whole, continued = (
        json.loads((tmp_path / f'{n}.json').read_text()) for n in ('whole', 'killed')
    )
    for clock in ('seconds', 'cpu_seconds'):
        assert whole.pop(clock) > 0 and continued.pop(clock) > 0
    assert whole == continued
    assert whole['metrics'].keys() >= {'mIoU', 'IoU.sky', 'IoU.bicyclist'}
    assert (whole['config'], whole['commits'], whole['seed'], whole['epochs']) == (
        'projects/real_pictures/configs/camvid_short.py',
        ['abc'],
        0,
        3,
    )


# In place of projects/real_pictures/one_run.py: fails for drop-path, else writes a record at once.
ONE_RUN = """
import json, pathlib, sys
options = [argument.lstrip('-').split('=') for argument in sys.argv[1:] if '=' in argument]
if ['recipe', 'drop-path'] in options:
    sys.exit('bad weather')
record = pathlib.Path(sys.argv[sys.argv.index('--record') + 1])
record.parent.mkdir(parents=True, exist_ok=True)
commits = sys.argv[sys.argv.index('--commits') + 1 :]
content = dict(options, data='camvid', commits=commits, metrics=dict(mIoU=50.0))
record.write_text(json.dumps(content))
"""


@pytest.fixture
def repository(tmp_path):
    """A checkout whose runs end at once."""
    package = tmp_path / 'projects/real_pictures'
    package.mkdir(parents=True)
    (package / 'one_run.py').write_text(ONE_RUN)
    for folder in (package, package.parent):
        (folder / '__init__.py').touch()
    for command in (
        ['init', '-q'],
        ['add', '-A'],
        ['-c', 'user.name=x', '-c', 'user.email=x@y', 'commit', '-qm', 'x'],
    ):
        subprocess.run(['git', *command], cwd=tmp_path, check=True)
    return tmp_path


NAMES = ['camvid/published_no-ema_seed0', 'camvid/published_drop-path_seed0']


def test_records_what_succeeds_and_does_nothing_twice(repository):
    results, work = repository / 'results', repository / 'work'
    with pytest.raises(RunFailed, match='real_pictures.one_run failed with code 1: bad weather'):
        run_campaign(repository, work, results, ['camvid'], NAMES)
    assert read_records(results).keys() == {NAMES[0]}
    before = (results / f'{NAMES[0]}.json').stat().st_mtime_ns
    run_campaign(repository, work, results, ['camvid'], NAMES[:1])
    assert (results / f'{NAMES[0]}.json').stat().st_mtime_ns == before
    (commit,) = read_records(results)[NAMES[0]]['commits']
    assert len(commit) == 12


def test_a_changed_checkout_shows_in_the_record(repository):
    (repository / 'projects/real_pictures/one_run.py').write_text(ONE_RUN + '\n')
    run_campaign(repository, repository / 'work', repository / 'results', ['camvid'], NAMES[:1])
    assert read_records(repository / 'results')[NAMES[0]]['commits'][0].endswith('-dirty')


def test_an_unknown_run_is_refused(repository):
    with pytest.raises(UserError, match="no run is called 'camvid/nothing'"):
        run_campaign(repository, repository / 'w', repository / 'r', ['camvid'], ['camvid/nothing'])


def test_a_folder_without_git_is_refused(tmp_path):
    with pytest.raises(UserError, match='is no checkout of git'):
        run_campaign(tmp_path, tmp_path / 'w', tmp_path / 'r')


def test_commits_are_those_of_the_checkpoints(tmp_path):
    training = Training(Run('camvid'), tmp_path, tmp_path)
    training.prepare('a')
    training.prepare('b')
    assert training.read_state()['commits'] == ['b']
    (training.root / 'epoch_1.pth').touch()
    training.prepare('c')
    assert training.read_state()['commits'] == ['b', 'c']


def test_another_config_starts_over(tmp_path, monkeypatch):
    training = Training(Run('camvid'), tmp_path, tmp_path)
    training.prepare('a')
    (training.root / 'epoch_1.pth').touch()
    cfg = training.run.load_config()
    cfg.max_epochs += 1
    monkeypatch.setattr(Run, 'load_config', lambda run: cfg)
    training.prepare('b')
    assert not (training.root / 'epoch_1.pth').exists()
    assert training.read_state()['commits'] == ['b']
