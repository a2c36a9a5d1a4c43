from __future__ import annotations

import pytest

from projects.benchmark.results import Results
from projects.gpu_report.findings import FAILED, MEASURED, NOT_RUN, OK, Findings, read, start_file
from projects.gpu_report.table import MOST_LINES, NAME, summary


@pytest.fixture
def out(tmp_path):
    start_file(tmp_path)
    return tmp_path


def add_rows(out, contenders, note=''):
    cells = dict(mode='train', height=1024, batch=8, median_ms='' if note else 12.345, note=note)
    Results(out / 'rows.csv').add([{**cells, 'contender': name} for name in contenders])


def test_a_finding_says_what_where_and_when(out, monkeypatch, capsys):
    monkeypatch.setenv('WEIGHTFORMER_COMMIT', 'abc')
    Findings(out, 'machine', 'a GPU, fast').add('copy', MEASURED, 1 / 3, 'TB/s', 'two\nlines')
    assert capsys.readouterr().out == 'machine: copy  measured  0.333333  TB/s  two lines\n'
    (row,) = read(out)
    expected = dict(part='machine', what='copy', verdict='measured', value='0.333333', unit='TB/s')
    expected.update(detail='two lines', device='a GPU, fast', commit='abc', seed='0')
    assert expected.items() < row.items() and row['date']


def test_failures_come_first_and_times_stand_side_by_side(out):
    part = Findings(out, 'networks', '')
    part.add('outputs', OK, 1e-3)
    part.add('gradients', FAILED, 0.7)
    part.add('part', OK)
    Findings(out, 'batch-8', '').add('part', NOT_RUN, detail='no time is left')
    add_rows(out, ['convnext_tiny'])
    add_rows(out, ['swin-tiny', 'swin-tiny', 'swin-tiny+compile'], 'mmdet is not installed')
    lines = summary(out).splitlines()
    assert lines[0] == '1 of 2 parts ended well; 2 findings failed or were not made'
    assert lines[1].split() == ['milliseconds', 't1024x8']
    assert lines[2].split() == ['convnext_tiny', '12.35'] and lines[3].split() == ['swin-tiny', '-']
    assert lines[5:] == [
        'networks  gradients  FAILED  0.7',
        'batch-8  part  not run  no time is left',
        'swin-tiny and 1 more  mmdet is not installed',
        'networks  outputs  ok  0.001',
    ]
    assert (out / NAME).read_text().splitlines() == lines


def test_it_is_short_whatever_happens(out):
    for number in range(50):
        for verdict in (OK, FAILED, MEASURED, NOT_RUN):
            Findings(out, 'networks', '').add(f'{verdict} {number}', verdict, 1.0)
    add_rows(out, [f'network{number}' for number in range(20)])
    add_rows(out, [f'other{number}' for number in range(8)], 'out of memory')
    lines = summary(out).splitlines()
    assert len(lines) <= MOST_LINES and max(map(len, lines)) <= 150
    assert sum('more like these' in line for line in lines) == 3
    assert any('measured 0  measured' in line for line in lines)


def test_nothing_at_all_is_a_table_too(out):
    assert summary(out) == '0 of 0 parts ended well; 0 findings failed or were not made'
