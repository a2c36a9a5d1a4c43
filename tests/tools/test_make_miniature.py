"""``tools/make_miniature.py`` as a user runs it."""

from __future__ import annotations

import pytest

from projects.miniatures import LAYOUTS

SMALL = ('--train', 2, '--val', 1, '--size', 48, 64)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_makes_a_set_then_finds_it(tools, tmp_path, layout):
    out = tmp_path / 'deep/set'
    first = tools.run('make_miniature', layout, '--out', out, *SMALL)
    assert 'made, 2 training and 1 validation images' in first.ok()
    assert '3/3' in first.err
    again = tools.run('make_miniature', layout, '--out', out, *SMALL)
    assert 'already there' in again.ok() and again.err == ''
    assert '--force' in tools.run('make_miniature', layout, '--out', out).error_line()
    forced = tools.run('make_miniature', layout, '--out', out, *SMALL, '--seed', 5, '--force')
    assert 'made' in forced.ok()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('voc',), 'coco, ade20k, cityscapes'),
        (('coco', '--train', -1), 'train'),
        (('coco', '--size', 8, 8), 'size'),
    ],
)
def test_wrong_values_give_one_line(tools, tmp_path, arguments, words):
    line = tools.run('make_miniature', *arguments, '--out', tmp_path / 'set').error_line()
    assert words in line and not (tmp_path / 'set').exists()


def test_files_of_others_and_places_that_cannot_be_written(tools, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('dear to me')
    out = tmp_path / 'mine'
    assert 'thesis.txt' in tools.run('make_miniature', 'ade20k', '--out', out).error_line()
    out = tmp_path / 'mine/thesis.txt/set'
    assert str(tmp_path) in tools.run('make_miniature', 'ade20k', '--out', out).error_line()
    assert (tmp_path / 'mine/thesis.txt').read_text() == 'dear to me'
