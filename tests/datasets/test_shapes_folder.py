"""When a set on disk is trusted, replaced or left alone."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace

import pytest
from filelock import FileLock

from weightformer_mm.datasets import ShapesConfig
from weightformer_mm.datasets import make_shapes as make
from weightformer_mm.errors import UserError

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
    with pytest.raises(UserError, match='holds another set.*--force'):
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
    with pytest.raises(UserError, match='seed 1.*--force'):
        make(out, OTHER, progress=False)
    assert read_tree(out) == before
    assert make(out, OTHER, force=True, progress=False)
    assert json.loads((out / 'manifest.json').read_text())['parameters']['seed'] == 2
    assert read_tree(out) != before
    assert hidden(out) == []


def test_a_set_that_cannot_be_replaced_stays(out, read_tree, monkeypatch):
    before, rename = read_tree(out), os.rename

    def fail_for_the_new_one(source, target):
        if source.name == 'new':
            raise OSError(errno.ENOSPC, 'No space left on device')
        rename(source, target)

    monkeypatch.setattr(os, 'rename', fail_for_the_new_one)
    with pytest.raises(UserError, match='cannot write the folder .*No space left'):
        make(out, OTHER, force=True, progress=False)
    assert read_tree(out) == before
    assert hidden(out) == []


def test_a_set_of_another_generator_version_is_not_reused(out):
    manifest = json.loads((out / 'manifest.json').read_text())
    manifest['version'] += 1
    (out / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(UserError, match='version.*--force'):
        make(out, CONFIG, progress=False)


def lose(path):
    path.unlink()


def change(path):
    path.write_bytes(path.read_bytes()[:-1] + b'x')


@pytest.mark.parametrize('damage', [lose, change])
@pytest.mark.parametrize(
    'name',
    ['images/train/000001.png', 'annotations/val/000000.png', 'annotations/instances_val.json'],
)
def test_a_damaged_set_is_not_trusted(out, read_tree, damage, name):
    before = read_tree(out)
    damage(out / name)
    with pytest.raises(UserError, match='changed or lost.*--force'):
        make(out, CONFIG, progress=False)
    make(out, CONFIG, force=True, progress=False)
    assert read_tree(out) == before


@pytest.mark.parametrize('content', [None, '', '{', '[]', '{"generator": "other"}'])
def test_a_set_without_a_manifest_is_made_anew(out, read_tree, content):
    before = read_tree(out)
    (out / 'manifest.json').unlink()
    (out / 'images/val/000000.png').unlink()
    if content is not None:
        (out / 'manifest.json').write_text(content)
    assert make(out, CONFIG, progress=False)
    assert read_tree(out) == before


@pytest.mark.parametrize('force', [False, True])
@pytest.mark.parametrize(
    'name', ['thesis.txt', 'images/train/cat.jpg', 'images/train/000000.png', 'deep/er/file']
)
def test_a_folder_of_others_is_never_touched(tmp_path, read_tree, name, force):
    mine = tmp_path / 'mine' / name
    mine.parent.mkdir(parents=True)
    mine.write_text('dear to me')
    with pytest.raises(UserError, match='did not'):
        make(tmp_path / 'mine', CONFIG, force=force, progress=False)
    assert read_tree(tmp_path) == {f'mine/{name}': b'dear to me'}
    assert hidden(tmp_path / 'mine') == []


def test_a_set_with_files_of_others_is_not_deleted(out, read_tree):
    (out / 'images/train/mine.png').write_text('dear to me')
    before = read_tree(out)
    with pytest.raises(UserError, match=r'images/train/mine\.png'):
        make(out, OTHER, force=True, progress=False)
    assert read_tree(out) == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / 'file').write_text('dear to me')
    for out in ('file', 'file/set', 'file/deep/set'):
        with pytest.raises(UserError, match='cannot write the folder'):
            make(tmp_path / out, CONFIG, force=True, progress=False)
    assert (tmp_path / 'file').read_text() == 'dear to me'


def test_an_empty_folder_and_a_link_are_filled(tmp_path, out, read_tree):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'link').symlink_to('empty')
    assert make(tmp_path / 'link', CONFIG, progress=False)
    assert (tmp_path / 'link').is_symlink()
    assert read_tree(tmp_path / 'empty') == read_tree(out)


def test_two_runs_do_not_write_one_set_at_once(tmp_path):
    with FileLock(tmp_path / '.set.lock'):
        with pytest.raises(UserError, match='another run'):
            make(tmp_path / 'set', CONFIG, progress=False)
    assert make(tmp_path / 'set', CONFIG, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def test_what_a_killed_run_left_is_removed_and_nothing_else(out, tmp_path, read_tree):
    """A run is killed while it writes, between its two renames, or while it removes the old set."""
    before = read_tree(out)
    shutil.copytree(out, tmp_path / '.set.partial-12345678/old')
    (tmp_path / '.set.partial-12345678/old/GENERATED.txt').unlink()
    shutil.move(out, tmp_path / '.set.partial-abcdefgh/new')
    (tmp_path / '.set.lock').touch()
    mine = tmp_path / '.set.partial-mine/thesis.txt'
    mine.parent.mkdir()
    mine.write_text('dear to me')
    (tmp_path / 'victim/new').mkdir(parents=True)
    (tmp_path / '.set.partial-linked').symlink_to(tmp_path / 'victim')
    assert make(out, CONFIG, progress=False)
    assert read_tree(out) == before
    assert mine.read_text() == 'dear to me' and (tmp_path / 'victim/new').is_dir()
    assert sorted(hidden(out)) == ['.set.partial-linked', '.set.partial-mine']


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
    with pytest.raises(UserError, match=word):
        ShapesConfig(**values)
