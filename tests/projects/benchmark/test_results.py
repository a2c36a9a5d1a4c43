from __future__ import annotations

import csv

import pytest

from projects.benchmark.results import COLUMNS, LOST, Results, read_rows
from weightformer_mm.errors import UserError

ROW = dict(
    commit='abc',
    device='cpu, of some kind',
    threads=1,
    contender='swin-tiny',
    mode='train',
    dtype='float32',
    height=64,
    width=96,
    median_ms=12.3456789,
    note='"quoted", with a comma',
)


def test_rows_are_safe_after_every_addition_and_appended_to(tmp_path):
    path = tmp_path / 'new' / 'results.csv'
    first = Results(path)
    first.add([ROW])
    assert [row['contender'] for row in read_rows(path)] == ['swin-tiny']
    first.add([{**ROW, 'width': 64}])
    second = Results(path)
    second.add([{**ROW, 'contender': 'other'}])
    rows = read_rows(path)
    assert [row['contender'] for row in rows] == ['swin-tiny', 'swin-tiny', 'other']
    assert [row['contender'] for row in second.new] == ['other']
    assert rows[0]['note'] == ROW['note'] and rows[0]['device'] == ROW['device']
    assert rows[0]['median_ms'] == '12.3457' and rows[0]['peak_mib'] == ''
    assert [file.name for file in path.parent.iterdir()] == ['results.csv']


def test_columns_are_in_the_file_in_order(tmp_path):
    Results(tmp_path / 'a.csv').add([ROW])
    with (tmp_path / 'a.csv').open(newline='') as file:
        assert next(csv.reader(file)) == list(COLUMNS)


def test_a_row_is_known_by_contender_size_mode_and_machine(tmp_path):
    path = tmp_path / 'a.csv'
    Results(path).add([ROW])
    results = Results(path)
    assert results.has(ROW) and results.has({**ROW, 'median_ms': 1.0})
    for change in ({'width': 64}, {'commit': 'b'}, {'mode': 'inference'}, {'contender': 'x'}):
        assert not results.has({**ROW, **change})


def test_a_row_that_another_kept_from_being_measured_is_not_known(tmp_path):
    path = tmp_path / 'a.csv'
    Results(path).add([{**ROW, 'note': LOST}])
    assert not Results(path).has(ROW)


def test_an_unknown_cell_is_an_error():
    with pytest.raises(KeyError, match='meadian_ms'):
        Results().add([{**ROW, 'meadian_ms': 1}])


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('a,b\n1,2\n', 'has a, b'),
        (','.join(list(COLUMNS)[:-1]) + '\n', 'lacks note'),
        (','.join(reversed(COLUMNS)) + '\n', 'in another order'),
        ('', 'lacks date'),
        (','.join(COLUMNS) + '\n1,2\n', 'line 2: expected'),
        (','.join(COLUMNS) + '\n' + ',' * len(COLUMNS) + '\n', 'line 2: expected'),
    ],
    ids=['foreign', 'missing', 'order', 'empty', 'short', 'long'],
)
def test_other_files_are_refused_and_left_alone(tmp_path, text, expected):
    path = tmp_path / 'a.csv'
    path.write_text(text)
    with pytest.raises(UserError, match=expected):
        Results(path)
    assert path.read_text() == text


def test_names_that_are_no_csv_are_refused(tmp_path):
    with pytest.raises(UserError, match='ends in .csv'):
        Results(tmp_path / 'a.txt')
    with pytest.raises(UserError, match='no such file'):
        read_rows(tmp_path / 'none.csv')
