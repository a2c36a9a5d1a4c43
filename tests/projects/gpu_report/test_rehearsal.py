"""The whole command on a CPU: every part runs, and what a CPU cannot do is said."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from projects.benchmark.results import read_rows
from projects.gpu_report import __main__ as command
from projects.gpu_report.data import prepare
from projects.gpu_report.findings import read
from projects.gpu_report.table import MOST_LINES
from tests.helpers import needs
from tests.helpers.commands import warm_python
from tests.helpers.real_layouts import make_camvid, make_nuclei

SCRIPT = command.ROOT / 'tools' / 'gpu_report.sh'


@needs.triton_internals
@pytest.mark.timeout(900)  # a minute of the processor, on a machine that may have much else to do
def test_every_part_runs_on_a_cpu(tmp_path, monkeypatch, capsys):
    make_camvid(tmp_path / 'camvid', train=4, val=2, size=(48, 64))
    make_nuclei(tmp_path / 'nuclei', 4, 2, (40, 56))
    prepare(tmp_path / 'data', tmp_path / 'camvid', tmp_path / 'nuclei')
    monkeypatch.setattr(sys, 'executable', str(warm_python(tmp_path)))
    monkeypatch.setenv('WEIGHTFORMER_COMMIT', 'abc')
    monkeypatch.setattr('signal.signal', lambda number, handler: None)
    words = [
        '--rehearse',
        '--deadline=800',
        f'--out={tmp_path / "out"}',
        f'--data={tmp_path / "data"}',
    ]
    with pytest.raises(SystemExit) as ended:
        command.report(command.parse_args(words))
    assert ended.value.code == 0
    found = read(tmp_path / 'out')
    log = (tmp_path / 'out' / 'report.log').read_text()
    verdicts = {row['part']: row['verdict'] for row in found if row['what'] == 'part'}
    assert {name for name, verdict in verdicts.items() if verdict == 'not run'} == {
        'compiled',
        'compiled-more',
    }
    assert set(verdicts.values()) == {'ok', 'not run'}, log[-5000:]
    failed = [row for row in found if row['verdict'] == 'FAILED']
    assert not failed, failed
    unable = {row['detail'] for row in found if row['verdict'] == 'not run'}
    assert any('ncu' in text for text in unable) and any('CUDA graphs' in text for text in unable)
    assert {row['commit'] for row in found} == {'abc'} and {row['seed'] for row in found} == {'0'}
    check_rows(tmp_path / 'out' / 'rows.csv')
    metrics = {row['what'] for row in found if row['part'].startswith('training')}
    assert metrics >= {'loss', 'iteration', 'mIoU', 'coco/bbox_mAP', 'coco/segm_mAP'}
    files = [*(tmp_path / 'out').iterdir()]
    assert len(files) <= 8 and all(path.stat().st_size < 2**20 for path in files)
    table = capsys.readouterr().out.partition('parts ended well')[2]
    assert table and len(table.splitlines()) <= MOST_LINES + 3


def check_rows(path: Path) -> None:
    rows = read_rows(path)
    assert {row['seed'] for row in rows} == {'0'} and {row['commit'] for row in rows} == {'abc'}
    notes = {row['contender']: row['note'] for row in rows}
    assert 'need a GPU' in notes['pyramid-micro+torch+graph']
    assert 'need a GPU' in notes['pyramid-micro+triton']
    for name in ('pyramid-micro+torch', 'swin_tiny_patch4_window7_224', 'published-tiny'):
        assert not notes[name]
    assert {row['batch'] for row in rows if row['mode'] == 'train'} == {'1', '2'}


def wheel(folder: Path, name: str, tag: str) -> None:
    info = f'{name}-1.0.dist-info'
    with zipfile.ZipFile(folder / f'{name}-1.0-{tag}.whl', 'w') as file:
        file.writestr(f'{name}.py', f'name = {name!r}\n')
        file.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
        file.writestr(f'{info}/WHEEL', f'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n')
        file.writestr(f'{info}/RECORD', '')


PROGRAM = """
import importlib.util, os, sys
print(*sys.argv[1:])
print(os.environ['WEIGHTFORMER_COMMIT'], importlib.util.find_spec('misfit'))
import carried
print(carried.__file__)
"""


def test_the_script_installs_what_fits_of_the_carried_wheels_for_itself(tmp_path):
    for folder in ('tools', '.whl', 'projects/gpu_report'):
        (tmp_path / folder).mkdir(parents=True)
    script = tmp_path / 'tools' / SCRIPT.name
    script.write_text(SCRIPT.read_text())
    for name in ('projects/__init__.py', 'projects/gpu_report/__init__.py'):
        (tmp_path / name).touch()
    (tmp_path / 'projects/gpu_report/__main__.py').write_text(PROGRAM)
    wheel(tmp_path / '.whl', 'carried', 'py3-none-any')
    wheel(tmp_path / '.whl', 'misfit', 'cp27-cp27m-win32')
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    environment.update(PYTHON=sys.executable, WEIGHTFORMER_COMMIT='abc')
    done = subprocess.run(
        ['sh', script, '--rehearse'], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    options, facts, place = done.stdout.splitlines()
    assert options.startswith('--spent ') and options.endswith(f' --from {os.getcwd()} --rehearse')
    assert facts == 'abc None' and 'without misfit-1.0' in done.stderr
    assert place.startswith(f'{tmp_path}/.whl/site')


def test_the_script_needs_a_python(tmp_path):
    environment = {**os.environ, 'PYTHON': str(tmp_path / 'none')}
    done = subprocess.run(['sh', SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and 'set PYTHON' in done.stderr
    assert len(done.stderr.splitlines()) == 1
