"""Runs as processes on a few generated pictures: killed, continued, recorded once."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from projects.real_pictures import training
from projects.real_pictures.campaign import read_records, run_campaign
from projects.real_pictures.one_run import commit_of
from projects.real_pictures.plan import CONFIGS, ROOT, Run, score
from projects.real_pictures.training import Training
from tests.helpers.commands import Fork
from tests.helpers.real_layouts import make_camvid
from weightformer_mm.errors import RunFailed, UserError

# A whole recipe on small images with a narrow network, three epochs of two iterations.
SMALL = """
import sys
from pathlib import Path

from projects.real_pictures import one_run, plan, training
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
    cfg.optim_wrapper.optimizer.ns_steps = 1
    cfg.train_dataloader.batch_size = 2
    cfg.max_epochs = cfg.train_cfg.max_epochs = 3
    cfg.custom_hooks = [dict(type='HarmHook')]
    return cfg


plan.Run.load_config = small
one_run.SHAPES['camvid'] = [(64, 96)]
run = plan.Run('camvid', protocol='micro')
one_run.make_run(training.Training(run, Path(sys.argv[1]), Path(sys.argv[1])))
"""
NAME = 'camvid/micro_published_seed0'


@pytest.fixture
def run_small(tmp_path):
    make_camvid(tmp_path / 'camvid', train=4, val=2, size=(48, 64))
    script = tmp_path / 'small.py'
    script.write_text(SMALL.format(data=str(tmp_path / 'camvid')))

    def run(name, harm=None):
        env = {'PYTHONPATH': str(ROOT), 'HARM': json.dumps(harm or {})}
        return Fork([str(script), str(tmp_path / name)], tmp_path, env).wait()

    return run


def test_a_killed_run_ends_with_the_same_numbers(run_small, tmp_path):
    run_small('whole').ok()
    killed = run_small('killed', {'deed': 'kill', 'iteration': 3})  # in the second epoch
    assert killed.code == -signal.SIGKILL
    checkpoints = (tmp_path / 'killed' / NAME).glob('*.pth')
    assert [path.name for path in checkpoints] == ['epoch_1.pth']
    run_small('killed').ok()
    whole, continued = (read_records(tmp_path / name)[NAME] for name in ('whole', 'killed'))
    for clock in ('seconds', 'cpu_seconds'):
        assert whole.pop(clock) > 0 and continued.pop(clock) > 0
    whole.pop('date'), continued.pop('date')
    assert whole == continued
    for metrics in ('metrics', 'tta_metrics'):
        assert whole[metrics].keys() >= {'mIoU', 'IoU.sky', 'IoU.bicyclist'}
    assert (whole['config'], whole['seed'], whole['epochs'], whole['images']) == (
        CONFIGS['micro']['camvid'],
        0,
        3,
        {'train': 4, 'test': 2},
    )
    assert whole['commits'] == [commit_of(ROOT)]


def test_a_training_that_diverges_has_a_record(run_small, tmp_path):
    run_small('run', {'deed': 'spoil weight', 'iteration': 1}).ok()
    record = read_records(tmp_path / 'run')[NAME]
    assert record['metrics'] == {} and 'diverged' in record['diverged'] and score(record) == 0


# In place of projects/real_pictures/one_run.py: fails for drop-path, else writes a record at once.
ONE_RUN = """
import json, pathlib, sys
from projects.real_pictures import training
options = dict(argument.lstrip('-').split('=') for argument in sys.argv[1:] if '=' in argument)
if options.get('change') == 'drop-path':
    sys.exit('bad weather')
results = pathlib.Path(sys.argv[sys.argv.index('--results') + 1])
record = results / 'camvid' / f'{{options["network"]}}_{{options["change"]}}_seed0.json'
record.parent.mkdir(parents=True, exist_ok=True)
record.write_text(json.dumps(dict(data='camvid', metrics=dict(mIoU=50.0), digest='{digest}')))
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout whose runs end at once, without pictures; all configs have one digest."""
    package = tmp_path / 'projects/real_pictures'
    package.mkdir(parents=True)
    (package / 'one_run.py').write_text(ONE_RUN.format(digest='same'))
    for folder in (package, package.parent):
        (folder / '__init__.py').touch()
    (package / 'training.py').touch()
    monkeypatch.setattr(training, 'files_of', lambda cfg: '')
    monkeypatch.setattr(training, 'digest_of', lambda *parts: 'same')
    return tmp_path


NAMES = ['camvid/published_no-ema_seed0', 'camvid/published_drop-path_seed0']


def test_records_what_succeeds_and_does_nothing_twice(repository, monkeypatch):
    results, work = repository / 'results', repository / 'work'
    with pytest.raises(RunFailed, match='real_pictures.one_run failed with code 1: bad weather'):
        run_campaign(repository, work, results, ['camvid'], NAMES)
    assert read_records(results).keys() == {NAMES[0]}
    record = results / f'{NAMES[0]}.json'
    before = record.stat().st_mtime_ns
    run_campaign(repository, work, results, ['camvid'], NAMES[:1])
    assert record.stat().st_mtime_ns == before
    monkeypatch.setattr(training, 'digest_of', lambda *parts: 'another')
    run_campaign(repository, work, results, ['camvid'], NAMES[:1])
    assert record.stat().st_mtime_ns > before


def test_an_unknown_run_is_refused(repository):
    with pytest.raises(UserError, match="no run is called 'camvid/nothing'"):
        run_campaign(repository, repository / 'w', repository / 'r', ['camvid'], ['camvid/nothing'])


def test_the_commit_says_whether_files_differ(tmp_path):
    with pytest.raises(UserError, match='is no checkout of git'):
        commit_of(tmp_path)
    (tmp_path / 'projects/real_pictures/results').mkdir(parents=True)
    (tmp_path / 'projects/code.py').touch()
    identity = ['-c', 'user.name=x', '-c', 'user.email=x@y']
    for words in (['init', '-q'], ['add', '-A'], [*identity, 'commit', '-qm', 'x']):
        subprocess.run(['git', *words], cwd=tmp_path, check=True)
    commit = commit_of(tmp_path)
    (tmp_path / 'projects/real_pictures/results/x.json').touch()
    (tmp_path / 'page.md').touch()
    assert len(commit) == 12 and commit_of(tmp_path) == commit
    (tmp_path / 'projects/code.py').write_text('1')
    assert commit_of(tmp_path) == f'{commit}-dirty'


def test_commits_are_those_of_the_checkpoints(tmp_path):
    run = Training(Run('camvid'), tmp_path, tmp_path)
    run.prepare('digest', 'a')
    run.prepare('digest', 'b')
    assert run.read_state()['commits'] == ['b']
    (run.root / 'epoch_1.pth').touch()
    run.prepare('digest', 'c')
    assert run.read_state()['commits'] == ['b', 'c']
    run.prepare('another', 'd')
    assert run.read_state()['commits'] == ['d'] and not (run.root / 'epoch_1.pth').exists()
