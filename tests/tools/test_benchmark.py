"""``tools/benchmark.py`` as a user runs it; what times it prints is of no interest here."""

from __future__ import annotations

import pytest

from projects.benchmark.results import read_rows
from tests.helpers.commands import SEGMENTATION, Fork, running

QUICK = ('--rounds', 1, '--warmup', 1, '--threads', 1, '--no-memory', '--no-ceilings')


def test_backbones_are_measured_appended_and_resumed(tools, tmp_path):
    out = tmp_path / 'new' / 'a.csv'
    command = ('backbone', '--contenders', 'pyramid-micro', 'published-tiny', *QUICK, '--out', out)
    table = tools.run('benchmark', *command, '--sizes', '64', '32x64').ok()
    assert (
        '32x64' in table
        and 'takes square images only' in table
        and table.rstrip().endswith('a.csv')
    )
    rows = read_rows(out)
    assert [(row['height'], row['width'], row['mode']) for row in rows] == [
        *[('64', '64', 'inference')] * 2,
        *[('64', '64', 'train')] * 2,
        *[('32', '64', 'inference')] * 2,
        *[('32', '64', 'train')] * 2,
    ]
    assert all(row['torch'] and row['device'] and row['date'] for row in rows)
    again = (*command, '--sizes', '64', '64x32', '--modes', 'inference', '--resume')
    tools.run('benchmark', *again).ok()
    new = read_rows(out)[len(rows) :]
    assert {(row['height'], row['width']) for row in new} == {('64', '32')}
    picture = tmp_path / 'plot.png'
    tools.run('benchmark', 'plot', out, '--out', picture, '--fit-from', 0).ok()
    assert picture.read_bytes().startswith(b'\x89PNG')


def test_memory_and_ceilings_are_in_the_rows(tools, tmp_path):
    out = tmp_path / 'a.csv'
    options = ('--sizes', 64, '--modes', 'inference', '--rounds', 1, '--warmup', 1)
    tools.run('benchmark', 'backbone', '--contenders', 'pyramid-micro', *options, '--out', out).ok()
    (row,) = read_rows(out)
    cells = ('peak_mib', 'baseline_mib', 'share_of_matmul', 'copy_gb_per_s', 'multiply_adds')
    assert all(float(row[cell]) > 0 for cell in cells)


OPENMMLAB = ('mmengine', 'mmcv', 'mmdet', 'mmseg')
WITHOUT = f'import sys\nfor name in {OPENMMLAB}:\n    sys.modules[name] = None\n'


def without_openmmlab(folder, *arguments):
    """Run the tool where none of OpenMMLab's libraries can be imported."""
    script = folder / 'script.py'
    script.write_text(WITHOUT + 'import projects.benchmark.memory_process\n' + running('benchmark'))
    return Fork([str(script), *map(str, arguments)], folder, {}, openmmlab=False).wait()


def test_what_needs_no_openmmlab_runs_without_it(tmp_path):
    out = tmp_path / 'a.csv'
    names = ('plain-pyramid-micro', 'swin_tiny_patch4_window7_224', 'swin-tiny', 'pyramid-micro')
    command = ('backbone', '--contenders', *names, '--modes', 'inference', *QUICK, '--sizes', 32)
    without_openmmlab(tmp_path, *command, '--out', out).ok()
    rows = {row['contender']: row for row in read_rows(out)}
    assert set(rows) == set(names)
    assert all(rows[name]['median_ms'] and rows[name]['multiply_adds'] for name in names[:2])
    assert rows['swin-tiny']['note'].startswith('mmdet, which the config needs, is not installed')
    assert rows['pyramid-micro']['note'].startswith('mmengine is not installed')
    options = ('--ops', 'gelu', '--sizes', 32, '--rounds', 1)
    operations = ('ops', '--arch', 'weightformer-tiny', *options, '--out', out)
    without_openmmlab(tmp_path, *operations).ok()
    picture = tmp_path / 'a.png'
    without_openmmlab(tmp_path, 'plot', out, '--where', 'mode=inference', '--out', picture).ok()
    assert picture.is_file()
    line = without_openmmlab(tmp_path, 'detector', SEGMENTATION).error_line()
    assert 'mmengine, which the config needs, is not installed' in line


def test_a_detector_is_measured(tools, tmp_path):
    out = tmp_path / 'a.csv'
    tools.run('benchmark', 'detector', SEGMENTATION, '--sizes', 64, *QUICK, '--out', out).ok()
    rows = read_rows(out)
    assert [row['mode'] for row in rows] == ['inference', 'train']
    assert {row['contender'] for row in rows} == {SEGMENTATION.stem}


def test_operations_are_measured(tools, tmp_path):
    out = tmp_path / 'a.csv'
    options = ('--arch', 'weightformer-tiny', '--ops', 'gelu', 'fc2', '--sizes', 32, '--rounds', 1)
    table = tools.run('benchmark', 'ops', *options, '--out', out).ok()
    assert 'gelu/weightformer-tiny-stage1/torch' in table
    assert len(read_rows(out)) == 2 * 2


def test_a_profile_is_written(tools, tmp_path):
    out = tmp_path / 'profile.md'
    options = ('--contenders', 'pyramid-micro', '--sizes', 32, '--profile', out)
    assert tools.run('benchmark', 'backbone', *options).ok().splitlines()[-1] == str(out)
    text = out.read_text()
    assert '## pyramid-micro, 32x32' in text and '| depthwise convolution |' in text


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['backbone', '--contenders', 'nothing'], "unknown 'nothing'"),
        (['backbone', '--contenders', 'swin-tiny+cp'], '+cp is for'),
        (['backbone', '--out', 'a.txt'], 'ends in .csv'),
        (['backbone', '--out', 'other.csv'], 'other columns'),
        (['backbone', '--sizes', '0x64'], '--sizes 0x64'),
        (['backbone', '--rounds', '0'], '--rounds 0: expected 1 or more'),
        (['backbone', '--batch', '0'], '--batch 0: expected 1 or more'),
        (['backbone', '--device', 'cuda:99'], '--device cuda:99'),
        (['backbone', '--profile', 'a.txt'], 'ends in .md'),
        (['backbone', '--profile', 'a.md', '--out', 'a.csv'], 'exclude each other'),
        (['backbone', '--profile', 'a.md', '--contenders', 'swin-tiny+compile'], 'compiled code'),
        (['detector', 'none.py'], 'config not found: none.py'),
        (['ops', '--ops', 'nothing', '--sizes', '32'], "--ops: unknown 'nothing'"),
        (['ops', '--arch', 'nothing'], '--arch: unknown'),
        (['ops', '--backends', 'cuda', '--sizes', '32'], 'unknown backend'),
        (['plot', 'none.csv', '--out', 'a.png'], 'none.csv: no such file'),
        (['plot', 'other.csv', '--out', 'a.png'], 'other columns'),
        (['plot', 'other.csv', '--out', 'a.jpg'], 'ends in .png'),
    ],
    ids=lambda value: '-'.join(value) if isinstance(value, list) else '',
)
def test_bad_input(tools, arguments, expected):
    (tools.folder / 'other.csv').write_text('a,b\n')
    assert expected in tools.run('benchmark', *arguments).error_line()


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ([], 'COMMAND'),
        (['backbone', '--sizes', '10x'], 'HEIGHTxWIDTH'),
        (['backbone', '--batch', 'full'], "'fill'"),
        (['backbone', '--dtype', 'int8'], 'invalid choice'),
    ],
    ids=['command', 'sizes', 'batch', 'dtype'],
)
def test_wrong_options_need_no_library(tools, arguments, expected):
    result = tools.run('benchmark', *arguments)
    assert result.code == 2
    assert expected in result.err.splitlines()[-1]


def test_help_lists_contenders_and_variants(tools):
    text = tools.run('benchmark', 'backbone', '--help').ok()
    for name in ('published-', 'swin-tiny', '+memory', 'fill', '--resume'):
        assert name in text
