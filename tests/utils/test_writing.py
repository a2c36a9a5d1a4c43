"""Files appear whole or not at all, and never through a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from weightformer_mm.errors import UserError
from weightformer_mm.utils.writing import (
    lies_in,
    make_below,
    name_outputs,
    refuse_inside,
    refuse_replacing,
    staged,
    written_whole,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_folder_of_a_partial_file_is_new_each_time_and_the_name_stays(tmp_path):
    seen = []
    for name in ('a.png', 'a.png', f'{"x" * 251}.png'):
        with written_whole(tmp_path / name) as partial:
            partial.write_text('new')
            seen.append(partial.parent)
    assert len(set(seen)) == 3
    assert names(tmp_path) == {'a.png', f'{"x" * 251}.png'}
    (tmp_path / 'other').touch()
    assert stat.S_IMODE((tmp_path / 'a.png').stat().st_mode) == stat.S_IMODE(
        (tmp_path / 'other').stat().st_mode
    )


@pytest.mark.parametrize('target', ['victim', 'none'])
def test_a_link_is_replaced_and_not_followed(tmp_path, target):
    (tmp_path / 'victim').write_text('precious')
    (tmp_path / 'a').symlink_to(tmp_path / target)
    with written_whole(tmp_path / 'a') as partial:
        partial.write_text('new')
    assert (tmp_path / 'victim').read_text() == 'precious'
    assert not (tmp_path / 'a').is_symlink() and (tmp_path / 'a').read_text() == 'new'
    assert names(tmp_path) == {'a', 'victim'}


def test_a_failure_leaves_the_old_file_alone(tmp_path):
    (tmp_path / 'a').write_text('old')
    with pytest.raises(KeyError), written_whole(tmp_path / 'a') as partial:
        partial.write_text('new')
        raise KeyError
    with pytest.raises(OSError, match='nothing was written'), written_whole(tmp_path / 'a'):
        pass
    with pytest.raises(FileExistsError), written_whole(tmp_path / 'a', replace=False) as partial:
        partial.write_text('new')
    assert names(tmp_path) == {'a'} and (tmp_path / 'a').read_text() == 'old'


def test_a_full_disk_is_named_with_the_file(tmp_path, small_disk):
    disk = small_disk(tmp_path / 'disk', '64k')
    (disk / 'a').write_text('old')
    with pytest.raises(OSError) as caught, written_whole(disk / 'a') as partial:
        partial.write_bytes(b'x' * 100_000)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(disk / 'a'))
    assert names(disk) == {'a'} and (disk / 'a').read_text() == 'old'


def test_a_folder_below_that_is_a_link_is_refused(tmp_path):
    (tmp_path / 'victim').mkdir()
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'labels').symlink_to(tmp_path / 'victim')
    with pytest.raises(UserError, match='labels is a link'), staged(out) as stage:
        for name in ('labels/more/a.png', 'a.json'):
            make_below(stage, Path(name)).write_text('new')
    assert names(tmp_path / 'victim') == set() and names(out) == {'labels'}


def test_what_is_read_is_recognised_whatever_its_name(tmp_path):
    images, away = tmp_path / 'images', tmp_path / 'away'
    images.mkdir()
    away.mkdir()
    image = images / 'a.png'
    image.write_text('image')
    (tmp_path / 'link').symlink_to(images)
    os.link(image, away / 'hard.png')
    (away / 'soft.png').symlink_to(image)
    for inside in (images, images / 'new/out', tmp_path / 'link/new', away / '../images'):
        assert lies_in(inside, images) and lies_in(inside, tmp_path / 'link')
        with pytest.raises(UserError, match='--out .* lies in .*images'):
            refuse_inside('--out', [away, inside], [away / 'none', images])
    assert not lies_in(tmp_path, images) and not lies_in(tmp_path / 'images2', images)
    links = (away / 'hard.png', away / 'soft.png', tmp_path / 'link/a.png')
    for target in (image, *links, tmp_path / 'new/../images/a.png'):
        with pytest.raises(UserError, match='this file is read'):
            refuse_replacing('--out', [away / 'new.png', target], ['hf://a/b', image])
    refuse_replacing('--out', [away / 'new.png'], [away / 'gone.png', image])


def test_no_two_outputs_have_one_name():
    def rename(path: Path) -> Path:
        return path if path.suffix == '.png' else path.with_suffix(f'{path.suffix}.png')

    sources = ['/r/same.tif', '/r/same.tif.png', '/r/b/0.png', '/r/a/0.png', '/r/x.png', '/r/X.png']
    sources += ['/r/same.tif-2.png', '/r/f.tif', '/r/f.tif.png/0.png']
    named = name_outputs(sources, '/r', rename)
    assert {str(source): str(name) for source, name in named.items()} == {
        '/r/X.png': 'X.png',
        '/r/a/0.png': 'a/0.png',
        '/r/b/0.png': 'b/0.png',
        '/r/f.tif.png/0.png': 'f.tif.png/0.png',
        '/r/same.tif-2.png': 'same.tif-2.png',
        '/r/same.tif.png': 'same.tif.png',
        '/r/x.png': 'x-2.png',
        '/r/f.tif': 'f.tif-2.png',
        '/r/same.tif': 'same.tif-3.png',
    }
    assert name_outputs(reversed(sources), '/r', rename) == named
