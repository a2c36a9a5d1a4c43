"""``tools/dataset_converters/nuclei.py`` as a user runs it."""

from __future__ import annotations

from tests.helpers.real_layouts import write_nuclei

TOOL = 'dataset_converters/nuclei'


def test_converts_and_says_what(tools, tmp_path):
    masks = write_nuclei(tmp_path / 'source', 3, (40, 56))
    out = tmp_path / 'deep/out'
    result = tools.run(TOOL, tmp_path / 'source', '--out', out, '--val-share', 0.3, '--seed', 5)
    lines = result.ok().splitlines()
    assert f'{out}/train: 2 pictures' in lines[0] and f'{out}/val: 1 pictures' in lines[1]
    nuclei = [int(line.split()[-2]) for line in lines]
    assert sum(nuclei) == sum(map(len, masks.values()))
    assert '3/3' in result.err


def test_bad_input_is_one_line(tools, tmp_path):
    line = tools.run(TOOL, tmp_path / 'none', '--out', tmp_path / 'out').error_line()
    assert line == f'nuclei.py: error: no folder {tmp_path}/none'
    assert not (tmp_path / 'out').exists()
