"""The whole demo with its real tools and configs, on few small images and one iteration long."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.demo.pipeline import make_sheet, run_demo
from projects.demo.tasks import STATE_FILE, TASKS, TaskFolder
from tests.helpers.commands import running, warm_python
from weightformer_mm.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]
SHORT = """
_base_ = {config!r}
train_cfg = dict(max_epochs=1, val_interval=1)
optim_wrapper = dict(optimizer=dict(ns_steps=1))
train_dataloader = dict(dataset=dict(indices=2))
val_dataloader = dict(dataset=dict(indices=2))
test_dataloader = dict(num_workers=0, persistent_workers=False)
"""
SIZE = 96  # pixels
MAKE_SHAPES = f"""
import sys
sys.argv += ['--train', '2', '--val', '8', '--size', '{SIZE}']
{running('make_shapes')}"""


@pytest.fixture(scope='module')
def repository(tmp_path_factory):
    """A repository with the real tools, little data, and configs that train for one iteration."""
    folder = tmp_path_factory.mktemp('repository')
    (folder / 'tools').mkdir()
    for name in ('train.py', 'test.py', 'command_line.py'):
        (folder / 'tools' / name).symlink_to(REPOSITORY / 'tools' / name)
    (folder / 'tools/make_shapes.py').write_text(MAKE_SHAPES)
    for task in TASKS:
        path = folder / task.short
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SHORT.format(config=str(REPOSITORY / task.short)))
    return folder


@pytest.mark.timeout(600)
def test_makes_everything_once(repository, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'executable', str(warm_python(repository)))
    out = repository / 'demo'
    table = run_demo(repository, out)
    for title in ('box mAP', 'mask mAP', 'mIoU'):
        assert title in table
    folders = [
        TaskFolder(t, repository / t.short, out / t.name, repository / 'data/shapes') for t in TASKS
    ]
    for folder in folders:
        assert cv2.imread(str(folder.sheet)).shape[0] > 4 * SIZE
        assert folder.checkpoint().is_file()
    capsys.readouterr()

    logs = {
        path: path.read_bytes()
        for folder in folders
        for path in (folder.train_log, folder.test_log)
    }
    again = run_demo(repository, out)
    assert again.split('this run')[0] == table.split('this run')[0]
    assert 'training' not in capsys.readouterr().out
    assert all(path.read_bytes() == content for path, content in logs.items())

    # another config: that task is made anew, the other one is kept
    folders[0].config.write_text(folders[0].config.read_text() + 'randomness = dict(seed=1)\n')
    for folder in folders:
        folder.claim(folder.digest(), 'the demo')
    assert not folders[0].metrics.exists()
    assert folders[1].metrics.exists()


def test_a_folder_of_the_users_is_left_alone(repository, shapes, tmp_path):
    folder = TaskFolder(TASKS[0], REPOSITORY / TASKS[0].short, tmp_path / 'mine', shapes)
    folder.root.mkdir()
    (folder.root / 'thesis.tex').write_text('precious')
    with pytest.raises(UserError, match='mine holds files that the demo did not write'):
        folder.claim(folder.digest(), 'the demo', force=True)
    assert (folder.root / 'thesis.tex').read_text() == 'precious'
    assert not (folder.root / STATE_FILE).exists()


def test_each_picture_of_the_sheet_is_image_truth_prediction(tmp_path):
    reds = np.array([[10, 100, 200], [20, 110, 210], [30, 120, 220]], np.uint8)
    images, pictures = [], []
    for index, (image, *picture) in enumerate(reds):
        for paths, colours in ((images, [image]), (pictures, picture)):
            paths.append(tmp_path / f'{len(colours)}_{index}.png')
            parts = [np.full((40, 40, 3), (0, 0, colour), np.uint8) for colour in colours]
            cv2.imwrite(str(paths[-1]), np.hstack(parts))
    make_sheet(images, pictures, tmp_path / 'sheet.png')
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    for colours in reds:
        places = [np.argwhere((sheet == (0, 0, colour)).all(axis=2)) for colour in colours]
        assert [len(place) for place in places] == [40 * 40] * 3
        tops, lefts = zip(*(place.min(axis=0) for place in places))
        assert len(set(tops)) == 1 and list(lefts) == sorted(lefts)
