"""The notebooks run from top to bottom, and are stored as they ran, with pictures."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ENV, warm_python

nbformat = pytest.importorskip('nbformat')
ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))
MOST_BYTES = 1_000_000
# for the cell of parameters: two iterations of each training
QUICK = {'first_steps': 'EPOCHS, PICTURES = 1, 16', 'your_data': 'EPOCHS, PICTURES = 1, 5'}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ['first_steps', 'your_data']


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_small_and_names_no_folder_of_a_machine(path):
    text = path.read_text()
    assert len(text) < MOST_BYTES
    assert re.findall(r'/(?:root|home|work|tmp)/\w+', text) == []
    links = re.findall(r'\]\((\.\.?/[^)]+)\)', text)
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_cell_was_run_in_order_and_pictures_are_stored(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == 'error']
    assert sum('image/png' in output.get('data', {}) for output in outputs) >= 3


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip('nbclient')
    notebook = nbformat.read(path, as_version=4)
    if any('pytorch_grad_cam' in cell.source for cell in notebook.cells):
        pytest.importorskip('pytorch_grad_cam')
    (parameters,) = (
        cell for cell in notebook.cells if 'parameters' in cell.metadata.get('tags', ())
    )
    assert re.findall(r'^(\w+) =', parameters.source, re.M) == ['PICTURES', 'EPOCHS']
    parameters.source = QUICK[path.stem]
    for name, value in {**ENV, 'PYTHONPATH': str(ROOT), 'TMPDIR': str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    # the kernel is a fork that has imported torch and the libraries
    monkeypatch.setattr(sys, 'executable', str(warm_python(tmp_path)))
    # the first kernel waits for the warm process
    limits = {'timeout': 250, 'startup_timeout': 250}
    where = {'metadata': {'path': str(tmp_path)}}
    nbclient.NotebookClient(notebook, resources=where, **limits).execute()
