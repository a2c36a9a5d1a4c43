"""``tools/infer.py`` as a user runs it."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.tools.commands import CLASSIFICATION, SEGMENTATION


@pytest.fixture
def folder(shapes, tmp_path) -> Path:
    """Three images, one of them in a sub-folder, and a file that is none."""
    folder = tmp_path / 'images'
    (folder / 'more').mkdir(parents=True)
    for name, copy in (('000000', 'a.png'), ('000001', 'b.bmp'), ('000002', 'more/a.png')):
        image = cv2.imread(str(shapes / f'images/val/{name}.png'))
        cv2.imwrite(str(folder / copy), image[:50, :70])
    (folder / 'notes.txt').write_text('not an image')
    return folder


def pictures(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def test_folder(tools, task_run, folder, tmp_path):
    out = tmp_path / 'out'
    arguments = (folder, '--out', out, '--score-thr', '0.01')
    log = tools.run('infer', task_run.config, task_run.checkpoint, *arguments).ok()
    assert f'3 pictures in {out}' in log
    assert 'passed over 1 files that are no images: notes.txt' in log
    assert pictures(out) == {'a.png', 'b.bmp.png', 'more/a.png'}
    drawn = cv2.imread(str(out / 'a.png'))
    # names of classes need room
    assert drawn.shape == ((224, 313, 3) if task_run.config == CLASSIFICATION else (50, 70, 3))
    image = cv2.resize(cv2.imread(str(folder / 'a.png')), drawn.shape[1::-1])
    assert (drawn != image).any()


def test_image_in_a_new_process_and_in_any_folder(tools, segmentation, shapes):
    arguments = (shapes / 'images/val/000001.png', '--out', 'here', '--device', 'cpu')
    log = tools.fresh('infer', SEGMENTATION, segmentation.checkpoint, *arguments).ok()
    assert f'1 pictures in {tools.folder}/here' in log
    assert pictures(tools.folder / 'here') == {'000001.png'}


def test_unreadable_images_are_named_after_the_others_are_drawn(tools, segmentation, folder):
    (folder / 'bad.png').write_bytes(b'nothing')
    out = folder / 'out'  # inside the source: its pictures are no input of the second run
    arguments = ('infer', SEGMENTATION, segmentation.checkpoint, folder, '--out', out)
    for _ in range(2):
        result = tools.run(*arguments)
        assert result.code == 2
        line = result.err.strip().splitlines()[-1]
        bad = f'{folder}/bad.png (not an image, or damaged)'
        assert f'error: cannot read 1 of the images: {bad}; the other 3 are drawn' in line
        assert pictures(out) == {'a.png', 'b.bmp.png', 'more/a.png'}


@pytest.mark.parametrize(
    ('make', 'expected'),
    [
        (lambda path: None, 'no such image or folder: {path}'),
        (Path.mkdir, '{path}: an empty folder'),
        (
            lambda path: (path.mkdir(), (path / 'a.txt').touch()),
            '{path}: 1 files, none of them an image',
        ),
    ],
    ids=['missing', 'empty', 'no images'],
)
def test_no_images(tools, segmentation, tmp_path, make, expected):
    path = tmp_path / 'source'
    make(path)
    arguments = (path, '--out', tmp_path / 'out')
    line = tools.run('infer', SEGMENTATION, segmentation.checkpoint, *arguments).error_line()
    assert expected.format(path=path) in line
    assert not (tmp_path / 'out').exists()


def test_wrong_arguments(tools, segmentation, detection, shapes, tmp_path):
    image = shapes / 'images/val/000000.png'
    (tmp_path / 'file').touch()

    def refuse(checkpoint: Path, *arguments: object) -> str:
        return tools.run('infer', SEGMENTATION, checkpoint, image, *arguments).error_line()

    here, out = segmentation.checkpoint, ('--out', tmp_path / 'out')
    assert 'is a checkpoint of another model' in refuse(detection.checkpoint, *out)
    assert '--device gpu: no such device' in refuse(here, *out, '--device', 'gpu')
    assert '--device cuda:99: this machine has' in refuse(here, *out, '--device', 'cuda:99')
    assert 'cannot write there' in refuse(here, '--out', tmp_path / 'file/out')
