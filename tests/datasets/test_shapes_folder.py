"""When a set on disk is trusted, replaced or left alone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from weightformer_mm.datasets import ShapesConfig, ShapesError
from weightformer_mm.datasets import make_shapes as make

CONFIG = ShapesConfig(train=2, val=1, size=64, seed=1)
OTHER = ShapesConfig(train=2, val=1, size=64, seed=2)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / 'set'
    make(folder, CONFIG, progress=False)
    return folder


def hidden(out):
    return [path.name for path in out.parent.iterdir() if path.name.startswith('.')]


def test_manifest_states_the_parameters(out):
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['parameters'] == {'train': 2, 'val': 1, 'size': 64, 'seed': 1}
    assert manifest['version'] >= 1 and len(manifest['checksum']) == 64


def test_manifest_of_single_objects_says_so(single_shapes):
    manifest = json.loads((single_shapes / 'manifest.json').read_text())
    assert manifest['parameters'] == {'train': 8, 'val': 3, 'size': 64, 'seed': 0, 'single': True}


def test_single_objects_are_another_set(out):
    with pytest.raises(ShapesError, match='holds another set.*--force'):
        make(out, replace(CONFIG, single=True), progress=False)
    assert make(out, replace(CONFIG, single=True), force=True, progress=False)
    assert make(out, replace(CONFIG, single=True), progress=False) is False
    assert make(out, CONFIG, force=True, progress=False)
    assert not list((out / 'annotations').glob('*.txt'))


def test_a_finished_set_is_reused(out, read_tree):
    times = {path: path.stat().st_mtime_ns for path in out.rglob('*')}
    assert make(out, CONFIG, progress=False) is False
    assert {path: path.stat().st_mtime_ns for path in out.rglob('*')} == times


def test_files_of_others_do_not_spoil_a_finished_set(out):
    (out / 'notes.txt').write_text('mine')
    assert make(out, CONFIG, progress=False) is False


def test_another_set_is_kept_unless_forced(out, read_tree):
    before = read_tree(out)
    with pytest.raises(ShapesError, match='seed 1.*--force'):
        make(out, OTHER, progress=False)
    assert read_tree(out) == before
    assert make(out, OTHER, force=True, progress=False)
    assert json.loads((out / 'manifest.json').read_text())['parameters']['seed'] == 2
    assert read_tree(out) != before
    assert hidden(out) == []


def test_a_set_of_another_generator_version_is_not_reused(out):
    manifest = json.loads((out / 'manifest.json').read_text())
    manifest['version'] += 1
    (out / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(ShapesError, match='version.*--force'):
        make(out, CONFIG, progress=False)


def lose(path):
    path.unlink()


def change(path):
    path.write_bytes(path.read_bytes()[:-1] + b'x')


@pytest.mark.parametrize('name', ['.set.shapes-partial', '.set.shapes-old'])
def test_a_planted_link_is_not_followed(name, out, tmp_path):
    victim = tmp_path / 'victim'
    make(victim, CONFIG, progress=False)  # looks like what an interrupted run left
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(ShapesError, match=f'{name} is a link'):
        make(out, OTHER, force=True, progress=False)
    assert not make(victim, CONFIG, progress=False) and not make(out, CONFIG, progress=False)


@pytest.mark.parametrize('damage', [lose, change])
@pytest.mark.parametrize(
    'name',
    ['images/train/000001.png', 'annotations/val/000000.png', 'annotations/instances_val.json'],
)
def test_a_damaged_set_is_not_trusted(out, read_tree, damage, name):
    before = read_tree(out)
    damage(out / name)
    with pytest.raises(ShapesError, match='changed or lost.*--force'):
        make(out, CONFIG, progress=False)
    make(out, CONFIG, force=True, progress=False)
    assert read_tree(out) == before


@pytest.mark.parametrize('content', [None, '', '{', '[]', '{"generator": "other"}'])
def test_a_set_without_a_manifest_is_made_anew(out, read_tree, caplog, content):
    before = read_tree(out)
    (out / 'manifest.json').unlink()
    (out / 'images/val/000000.png').unlink()
    if content is not None:
        (out / 'manifest.json').write_text(content)
    assert make(out, CONFIG, progress=False)
    assert 'incomplete' in caplog.text
    assert read_tree(out) == before


@pytest.mark.parametrize('force', [False, True])
@pytest.mark.parametrize(
    'name', ['thesis.txt', 'images/train/cat.jpg', 'images/train/000000.png', 'deep/er/file']
)
def test_a_folder_of_others_is_never_touched(tmp_path, read_tree, name, force):
    mine = tmp_path / 'mine' / name
    mine.parent.mkdir(parents=True)
    mine.write_text('dear to me')
    with pytest.raises(ShapesError, match='did not'):
        make(tmp_path / 'mine', CONFIG, force=force, progress=False)
    assert read_tree(tmp_path) == {f'mine/{name}': b'dear to me'}
    assert hidden(tmp_path / 'mine') == []


def test_a_set_with_files_of_others_is_not_deleted(out, read_tree):
    (out / 'images/train/mine.png').write_text('dear to me')
    before = read_tree(out)
    with pytest.raises(ShapesError, match=r'images/train/mine\.png'):
        make(out, OTHER, force=True, progress=False)
    assert read_tree(out) == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / 'file').write_text('dear to me')
    for out in ('file', 'file/set', 'file/deep/set'):
        with pytest.raises(ShapesError, match='folder'):
            make(tmp_path / out, CONFIG, force=True, progress=False)
    assert (tmp_path / 'file').read_text() == 'dear to me'


def test_an_empty_folder_and_a_link_are_filled(tmp_path, out, read_tree):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'link').symlink_to('empty')
    assert make(tmp_path / 'link', CONFIG, progress=False)
    assert (tmp_path / 'link').is_symlink()
    assert read_tree(tmp_path / 'empty') == read_tree(out)


def test_two_runs_do_not_write_one_set_at_once(tmp_path):
    partial = tmp_path / '.set.shapes-partial'
    partial.mkdir()
    lock = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ShapesError, match='another run'):
            make(tmp_path / 'set', CONFIG, progress=False)
    finally:
        os.close(lock)
    assert partial.is_dir()
    assert make(tmp_path / 'set', CONFIG, progress=False)


def test_a_run_stopped_while_replacing_leaves_no_litter(out, read_tree):
    """Between the two renames the old set stands aside and there is no set."""
    before = read_tree(out)
    shutil.move(out, out.with_name('.set.shapes-old'))
    assert make(out, CONFIG, progress=False)
    assert read_tree(out) == before
    shutil.copytree(out, out.with_name('.set.shapes-old'))
    assert make(out, CONFIG, force=True, progress=False)
    assert hidden(out) == [] and read_tree(out) == before


def test_a_removal_stopped_half_way_can_be_resumed(out, monkeypatch):
    """Whatever is left of a set while it is removed, the next run still knows it as its own."""
    partial = out.with_name('.set.shapes-partial')
    shutil.copytree(out, partial)
    unlink = Path.unlink

    def refuse_marker(path):
        if path.name == 'GENERATED.txt':
            raise KeyboardInterrupt
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'unlink', refuse_marker)
        with pytest.raises(KeyboardInterrupt):
            make(out, OTHER, force=True, progress=False)
    assert [path.name for path in partial.iterdir()] == ['GENERATED.txt']
    assert make(out, OTHER, force=True, progress=False)
    assert hidden(out) == []


def test_hidden_folders_of_others_are_not_deleted(tmp_path, read_tree):
    for name in ('.set.shapes-partial', '.set.shapes-old'):
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'mine').write_text('dear to me')
        (tmp_path / 'set').mkdir(exist_ok=True)
        with pytest.raises(ShapesError, match='mine'):
            make(tmp_path / 'set', CONFIG, progress=False)
        assert (folder / 'mine').read_text() == 'dear to me'
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ('values', 'word'),
    [
        ({'size': 63}, 'size'),
        ({'size': 100_000}, 'size'),
        ({'train': -1}, 'train'),
        ({'val': -1}, 'val'),
        ({'train': 0, 'val': 0}, 'nothing'),
        ({'train': 1_000_001}, 'train'),
        ({'seed': -1}, 'seed'),
    ],
)
def test_values_out_of_range(values, word):
    with pytest.raises(ShapesError, match=word):
        ShapesConfig(**values)
