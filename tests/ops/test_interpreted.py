"""The folder ``interpreted`` in a process whose Triton interprets kernels on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.helpers import needs

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'tests' / 'ops' / 'interpreted'


def run(folder: Path, report: Path) -> subprocess.CompletedProcess:
    """Run pytest on ``folder``, with no ``conftest.py`` from above it."""
    command = [sys.executable, '-m', 'pytest', str(folder), f'--confcutdir={folder}']
    command += ['-q', '--tb=short', '-p', 'no:cacheprovider', f'--junitxml={report}']
    inherited = {k: v for k, v in os.environ.items() if not k.startswith('PYTEST_')}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**inherited, 'TRITON_INTERPRET': '1', 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check(result: subprocess.CompletedProcess, report: Path) -> None:
    """Fail, with the output of the other process, unless tests ran there, all passed and none was skipped."""
    assert result.returncode == 0, f'exit code {result.returncode}\n{result.stdout}'
    suite = ElementTree.parse(report).getroot().find('testsuite')
    tests, skipped = int(suite.get('tests')), int(suite.get('skipped'))
    assert tests > skipped == 0, f'{tests} tests, {skipped} skipped\n{result.stdout}'


@needs.triton_internals
def test_interpreted(tmp_path):
    report = tmp_path / 'report.xml'
    check(run(FOLDER, report), report)


OUTCOMES = {
    'passes': ('def test_it(): pass', None),
    'fails': ('def test_it(): assert 1 + 1 == 3', 'assert'),
    'is empty': ('', 'no tests ran'),
    'skips': ("import pytest\ndef test_it(): pytest.skip('why')", '1 skipped'),
    'is broken': ('import nothing_of_that_name', 'nothing_of_that_name'),
}


@pytest.mark.parametrize('outcome', OUTCOMES)
def test_what_happens_in_the_other_process_shows(outcome, tmp_path):
    source, message = OUTCOMES[outcome]
    file, report = tmp_path / 'test_sample.py', tmp_path / 'report.xml'
    file.write_text(source)
    result = run(tmp_path, report)
    if message is None:
        check(result, report)
    else:
        with pytest.raises(AssertionError, match=message):
            check(result, report)
