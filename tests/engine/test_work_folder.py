"""Which checkpoint of a work folder a run continues from, and who may write there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from weightformer_mm.engine.work_folder import Resumable, check_resumable, held
from weightformer_mm.errors import UserError


def write(folder: Path, number: int, note: bool = True, weight: float = 1.0, **state) -> Path:
    path = folder / f'epoch_{number}.pth'
    content = {
        'state_dict': {'weight': torch.tensor([weight])},
        'meta': {'epoch': number, 'iter': 2 * number},
        'message_hub': {},
        'optimizer': {'state': {0: {'exp_avg': torch.zeros(1)}}, 'param_groups': []},
    }
    torch.save({**content, **state}, path)
    if note:
        (folder / 'last_checkpoint').write_text(str(path))
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def diverge(path: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['state_dict']['weight'][0] = float('nan')
    torch.save(checkpoint, path)


def spoil_optimizer(path: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['optimizer']['state'][0]['exp_avg'][0] = float('inf')
    torch.save(checkpoint, path)


def lose_values(path: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['state_dict']['weight'] = torch.ones(1, device='meta')
    torch.save(checkpoint, path)


def weights_alone(path: Path) -> None:
    torch.save({'state_dict': {'weight': torch.ones(1)}}, path)


HARM = {
    'truncated': (truncate, 'is no readable checkpoint'),
    'empty': (lambda path: path.write_bytes(b''), 'is no readable checkpoint'),
    'not finite': (diverge, 'state_dict.weight is NaN'),
    'optimizer not finite': (spoil_optimizer, 'optimizer.state.0.exp_avg is not finite'),
    'meta': (lose_values, 'state_dict.weight is without values'),
    'weights alone': (weights_alone, 'not the state of a run'),
    'a link to nothing': (lambda path: (path.unlink(), path.symlink_to('gone')), None),
    'gone': (Path.unlink, None),
}


def newest(folder: Path) -> str | None:
    found = Resumable.newest(folder)
    return found and found.path.name


def test_a_folder_without_checkpoints(tmp_path):
    assert newest(tmp_path) is None
    for note in ('', '/earlier/place/epoch_3.pth'):
        (tmp_path / 'last_checkpoint').write_text(note)
        with pytest.raises(UserError, match=f'last_checkpoint names {note!r}, which is not there'):
            newest(tmp_path)


def test_a_folder_that_moved_or_was_copied(tmp_path):
    original, copy = tmp_path / 'original', tmp_path / 'copy'
    for folder in (original, copy):
        folder.mkdir()
        write(folder, 3)
    (copy / 'last_checkpoint').write_text((original / 'last_checkpoint').read_text())
    assert Resumable.newest(copy).path == copy / 'epoch_3.pth'
    (copy / 'epoch_3.pth').unlink()
    assert Resumable.newest(copy).path == original / 'epoch_3.pth'


@pytest.mark.parametrize('harm', HARM)
def test_the_newest_whole_one_takes_the_place_of_a_bad_one(harm, tmp_path):
    for number in (1, 2, 9, 10):
        last = write(tmp_path, number)
    spoil, reason = HARM[harm]
    spoil(last)
    found = Resumable.newest(tmp_path)
    assert found.path.name == 'epoch_9.pth'
    assert reason is None or reason in found.passed_over[0]
    for path in tmp_path.glob('epoch_*.pth'):
        path.unlink()
        path.write_bytes(b'')
    with pytest.raises(UserError, match=r'no checkpoint of .* can be continued from: .*epoch_9'):
        newest(tmp_path)


@pytest.mark.parametrize('note', [None, b'', b'\0\0\0', b'\xff\xfe', b'/some/where/epoch_77.pth'])
def test_a_note_that_is_lost_or_spoilt(note, tmp_path):
    for number in (2, 10, 9):
        write(tmp_path, number, note=False)
    if note is not None:
        (tmp_path / 'last_checkpoint').write_bytes(note)
    assert newest(tmp_path) == 'epoch_10.pth'


def test_checkpoints_of_an_earlier_run_come_last(tmp_path):
    write(tmp_path, 12, note=False)
    write(tmp_path, 1)
    truncate(write(tmp_path, 2))
    assert newest(tmp_path) == 'epoch_1.pth'


def test_names_and_place_as_the_hook_has_them(tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    write(elsewhere, 3, note=False).rename(elsewhere / 'net-003-run.pth')
    found = Resumable.newest(tmp_path, 'net-{:03d}-run.pth', elsewhere)
    assert found.path == elsewhere / 'net-003-run.pth'


def test_resuming_needs_the_state_of_a_run():
    run = {'meta': {'epoch': 1, 'iter': 2}, 'message_hub': {}, 'optimizer': {}}
    check_resumable(run, 'a.pth')
    for key in run:
        with pytest.raises(UserError, match=f'{key} missing.*load_from=a.pth'):
            check_resumable({k: v for k, v in run.items() if k != key}, 'a.pth')
    with pytest.raises(UserError, match='iter missing'):
        check_resumable({**run, 'meta': {'epoch': 1}}, 'a.pth')


@pytest.mark.parametrize('key', ['epoch', 'iter', 'seed'])
@pytest.mark.parametrize('value', [-1, 1.5, 'x', True, 2**40])
def test_progress_is_a_number(key, value):
    run = {'meta': {'epoch': 1, 'iter': 2, key: value}, 'message_hub': {}, 'optimizer': {}}
    with pytest.raises(UserError, match=f'meta.{key} is'):
        check_resumable(run, 'a.pth')


@contextmanager
def holder(folder: Path, forks: bool = False) -> Iterator[int]:
    """A process that holds ``folder``; with a child of its own, as of a data loader, that outlives it."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        with held(folder, 'none'):
            if forks:
                os.fork()
            os.write(writer, b'.')
            signal.pause()
    os.read(reader, 1)
    try:
        yield process
    finally:
        os.killpg(process, signal.SIGKILL)
        with suppress(ChildProcessError):  # a test may have waited for it
            os.waitpid(process, 0)
        os.close(reader)
        os.close(writer)


def test_one_training_at_a_time(tmp_path):
    with holder(tmp_path, forks=True) as process:
        with pytest.raises(UserError) as info, held(tmp_path, 'none'):
            pass
        assert f'another training runs there (process {process} on ' in str(info.value)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        with held(tmp_path, 'none'):
            pass


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='--work-dir .*/file/work: cannot write there: Not a dir'):
        with held(tmp_path / 'file/work', 'none'):
            pass


def test_other_processes_of_a_distributed_run_do_not_ask(tmp_path, monkeypatch):
    with holder(tmp_path):
        monkeypatch.setenv('RANK', '1')
        with held(tmp_path, 'pytorch'):
            pass
        monkeypatch.setenv('RANK', '0')
        with pytest.raises(UserError, match='another training'), held(tmp_path, 'pytorch'):
            pass


def test_what_a_killed_run_left_unfinished_is_removed(tmp_path):
    (tmp_path / '.partial-0123').mkdir()
    (tmp_path / '.partial-0123/epoch_2.pth').touch()
    (tmp_path / 'partial.pth').touch()
    with held(tmp_path, 'none'):
        assert {path.name for path in tmp_path.iterdir()} == {'.lock', 'partial.pth'}
