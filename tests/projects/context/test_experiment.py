"""The command with its real config and tools, on a tiny set and a schedule of two iterations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import indent

import cv2
import pytest

from projects.context.experiment import HARD_VARIANTS, choose, iterations, run_context
from projects.context.training import BAND, MARKER, STATE_FILE, Training
from tests.helpers.commands import WITHOUT_LIBRARIES, running
from weightformer_mm.backbones.strategies import compared_strategies
from weightformer_mm.errors import RunFailed, UserError

REPOSITORY = Path(__file__).resolve().parents[3]
SHORT = """
_base_ = {config!r}
prepare_data = 'python tools/make_shapes.py --context --out data/tiny --train 5 --val 2 --size 100'
data_root = 'data/tiny/'
train_dataloader = dict(batch_size=2, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
optim_wrapper = dict(optimizer=dict(ns_steps=1))
"""


# In place of tools/make_shapes.py: the tool itself, without libraries that it can do without.
MAKE_SHAPES = WITHOUT_LIBRARIES + running('make_shapes')
# In place of tools/train.py: fails for linear-gap, else logs metrics at once.
TRAIN = """
import json, pathlib, sys
if 'model.backbone.dynamic_linear=gap' in sys.argv:
    sys.exit('bad weather')
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1], 'now', 'vis_data')
folder.mkdir(parents=True)
lines = [{'loss': 1.0, 'step': 2}, {'mIoU': 50.0, 'cue_accuracy': float('nan'), 'found': 0.0, 'step': 2}]
(folder / 'scalars.json').write_text(''.join(json.dumps(line) + '\\n' for line in lines))
"""


@pytest.fixture
def repository(tmp_path):
    """Configs and tools; all trainings end at once."""
    for task in (BAND, MARKER):
        path = tmp_path / task.config
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SHORT.format(config=str(REPOSITORY / task.config)))
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools/make_shapes.py').write_text(MAKE_SHAPES)
    (tmp_path / 'tools/train.py').write_text(TRAIN)
    return tmp_path


@pytest.fixture
def trains_static(repository):
    """A repository that trains the static variant."""
    train = repository / 'tools/train.py'
    condition = "if 'model.backbone.dynamic_linear=static' in sys.argv:"
    train.write_text('\n'.join(['import sys', condition, indent(running('train'), '    '), TRAIN]))
    return repository


def states(out):
    return {path: path.read_text() for path in sorted(out.rglob(STATE_FILE))}


def test_trains_reports_and_does_nothing_twice(trains_static):
    repository, out, docs = trains_static, trains_static / 'out', trains_static / 'docs'
    names = ['published', 'static']
    table = run_context(repository, out, [3], names, docs=docs)
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines()]
    assert [row[0] for row in rows[2:]] == ['static', 'published']
    assert all(row[-1] == '3' for row in rows[2:])

    static, published = json.loads((out / 'table.json').read_text())['rows']
    for row, name in ((static, 'static'), (published, 'published')):
        state = json.loads((out / name / 'seed3' / STATE_FILE).read_text())
        assert row['variant'] == name and row['backbone'] == compared_strategies()[name]
        assert row['cpu_seconds'] == pytest.approx(state['cpu_seconds'])
    assert published['metrics'] == {'mIoU': [0.5], 'cue_accuracy': [None], 'found': [0.0]}
    log = (out / 'static' / 'seed3' / 'train.log').read_text()
    logged = re.findall(r'Epoch\(val\).* mIoU: ([\d.]+) .*found: ([\d.]+)', log)[-1]
    assert static['metrics']['mIoU'] == [pytest.approx(float(logged[0]) / 100, abs=1e-4)]
    assert static['metrics']['found'] == [pytest.approx(float(logged[1]) / 100, abs=1e-4)]
    assert static['cpu_seconds'] > 1 > published['cpu_seconds']
    assert "dynamic_linear='static'" in log and re.search(r'seed=3|seed: 3', log)
    assert table in (docs / 'context_table.md').read_text() == (out / 'table.md').read_text()
    assert (
        cv2.imread(str(docs / 'images/context.png')).shape
        == cv2.imread(str(out / 'plot.png')).shape
    )

    before = states(out)
    assert run_context(repository, out, [3], names) == table
    assert states(out) == before


def test_an_interrupted_run_starts_anew_and_the_others_stay(repository):
    out, names = repository / 'out', ['conv-gap', 'static']
    run_context(repository, out, [0], names)
    before = states(out)
    path = out / 'static' / 'seed0' / STATE_FILE
    path.write_text(json.dumps({'digest': json.loads(path.read_text())['digest']}))
    (path.parent / 'left_over.txt').write_text('')
    run_context(repository, out, [0], names)
    after = states(out)
    kept = out / 'conv-gap' / 'seed0' / STATE_FILE
    assert after[kept] == before[kept]
    assert 'metrics' in after[path] and not (path.parent / 'left_over.txt').exists()


def test_a_run_that_fails_is_named_and_the_others_are_reported(repository):
    out = repository / 'out'
    with pytest.raises(RunFailed, match=r'train\.py failed .*bad weather.*linear-gap/seed0'):
        run_context(repository, out, [0], ['linear-gap', 'published'], at_once=1)
    rows = json.loads((out / 'table.json').read_text())['rows']
    assert [row['variant'] for row in rows] == ['published']
    assert 'none found' in (out / 'table.md').read_text()


def test_a_training_without_metrics_is_named(repository):
    script = repository / 'tools/train.py'
    script.write_text(script.read_text().replace("'cue_accuracy'", "'other'"))
    with pytest.raises(RunFailed, match='static/seed0: no mIoU, cue_accuracy, found in its log'):
        run_context(repository, repository / 'out', [0], ['static'])
    assert not (repository / 'out/table.json').exists()


def test_another_config_or_seed_is_another_run(repository):
    (repository / 'data/tiny').mkdir(parents=True)
    manifest = repository / 'data/tiny/manifest.json'
    manifest.write_text('one')
    config = repository / BAND.config
    run = Training(config, 'static', compared_strategies()['static'], 0, repository / 'out')
    run.prepare(repository, force=False)
    run.write_state(metrics={'mIoU': 1})
    run.prepare(repository, force=False)
    assert run.is_done()
    for change in (
        lambda: manifest.write_text('another set'),
        lambda: config.write_text(
            config.read_text() + 'optim_wrapper = dict(optimizer=dict(lr=1))\n'
        ),
        lambda: run.changes.update({'randomness.seed': 1}),
        lambda: run.changes.update({'model.backbone.dynamic_linear': 'gap'}),
    ):
        change()
        run.prepare(repository, force=False)
        assert not run.is_done()
        run.write_state(metrics={'mIoU': 1})
    run.prepare(repository, force=True)
    assert not run.is_done()


def test_a_folder_of_the_users_is_left_alone(repository):
    (repository / 'data/tiny').mkdir(parents=True)
    (repository / 'data/tiny/manifest.json').write_text('one')
    root = repository / 'out'
    root.mkdir()
    (root / 'thesis.tex').write_text('precious')
    run = Training(repository / BAND.config, 'static', compared_strategies()['static'], 0, root)
    with pytest.raises(UserError, match='holds files that make context did not write'):
        run.prepare(repository, force=True)
    assert [path.name for path in root.iterdir()] == ['thesis.tex']


@pytest.mark.parametrize('seeds', [[], [1, 1]])
def test_seeds_must_differ(repository, seeds):
    with pytest.raises(UserError, match='expected different seeds'):
        run_context(repository, repository / 'out', seeds)
    assert not (repository / 'out').exists()


def test_iterations_are_those_of_the_config():
    """What the comment in the config says: 2 epochs of 1200 images in batches of 8."""
    run = Training(REPOSITORY / BAND.config, 'static', {}, 0, Path('unused'))
    cfg = run.load_config()
    command = cfg.prepare_data.split()
    assert '300 iterations' in (REPOSITORY / BAND.config).read_text()
    images = int(command[command.index('--train') + 1])
    assert cfg.train_cfg.max_epochs * (images // cfg.train_dataloader.batch_size) == 300


def test_iterations_count_full_batches(repository):
    (repository / 'data/tiny/images/train').mkdir(parents=True)
    for index in range(5):
        (repository / f'data/tiny/images/train/{index}.png').touch()
    cfg = Training(repository / BAND.config, 'static', {}, 0, Path('unused')).load_config()
    assert iterations(repository, cfg) == 2
    cfg.train_dataloader.drop_last = False
    assert iterations(repository, cfg) == 3


def test_some_are_chosen_in_the_order_of_the_table():
    assert list(choose(['attention', 'static'])) == ['static', 'attention']
    assert choose(None) == compared_strategies()
    assert list(choose(list(HARD_VARIANTS))) == list(HARD_VARIANTS)
    with pytest.raises(
        UserError, match="unknown variant 'linear-gapp'; choose from static, linear-gap"
    ):
        choose(['static', 'linear-gapp'])
