from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch

from tests.helpers import needs
from weightformer_mm.ops import backend
from weightformer_mm.ops.backend import choose_backend

ON_CPU = torch.zeros(2)
OBSTACLES = {
    'cpu': (torch.zeros(2), 'need a GPU'),
    'meta': (torch.zeros(2, device='meta'), 'need a GPU'),
}


@pytest.fixture(autouse=True)
def nothing_from_the_environment(monkeypatch):
    monkeypatch.setattr(backend, '_default', 'auto')
    monkeypatch.setattr(backend, '_INTERPRETED', False)
    monkeypatch.setattr(backend, '_said', set())


@pytest.mark.parametrize('case', OBSTACLES)
def test_auto_falls_back_and_says_so_once(case, caplog):
    x, reason = OBSTACLES[case]
    with caplog.at_level(logging.INFO, logger=backend.__name__):
        assert [choose_backend('auto', x) for _ in range(3)] == ['torch'] * 3
    assert len(caplog.messages) == 1
    assert (needs.TRITON_OBSTACLE or reason) in caplog.text


@pytest.mark.parametrize('case', OBSTACLES)
def test_triton_that_cannot_run_is_an_error(case):
    x, reason = OBSTACLES[case]
    with pytest.raises(ValueError, match=needs.TRITON_OBSTACLE or reason):
        choose_backend('triton', x)


def test_without_triton(monkeypatch, caplog):
    monkeypatch.setattr(backend, '_WITHOUT_TRITON', 'Triton is not installed')
    with pytest.raises(ValueError, match='Triton is not installed'):
        choose_backend('triton', ON_CPU)
    with caplog.at_level(logging.INFO, logger=backend.__name__):
        assert choose_backend('auto', ON_CPU) == 'torch'
    assert 'Triton is not installed' in caplog.text


@needs.triton
def test_interpreted_kernels_run_only_when_asked_for(monkeypatch):
    monkeypatch.setattr(backend, '_INTERPRETED', True)
    assert choose_backend('triton', ON_CPU) == 'triton'
    assert choose_backend('auto', ON_CPU) == 'torch'
    with pytest.raises(ValueError, match='float64'):
        choose_backend('triton', ON_CPU.double())


def test_unknown_names_list_the_valid_ones(monkeypatch):
    with pytest.raises(ValueError, match="'cuda'; choose one of auto, torch, triton"):
        choose_backend('cuda', ON_CPU)
    monkeypatch.setattr(backend, '_default', 'fast')
    with pytest.raises(ValueError, match='WEIGHTFORMER_BACKEND=fast: choose one of auto'):
        choose_backend('auto', ON_CPU)


@pytest.mark.parametrize(('value', 'expected'), [('torch', 'torch'), ('triton', 'ValueError')])
def test_environment_decides_for_auto_alone(value, expected):
    code = (
        'import torch\n'
        'from weightformer_mm.ops.backend import choose_backend\n'
        "assert choose_backend('torch', torch.zeros(2)) == 'torch'\n"
        'try:\n'
        "    print(choose_backend('auto', torch.zeros(2)))\n"
        'except ValueError:\n'
        "    print('ValueError')\n"
    )
    environment = {**os.environ, 'WEIGHTFORMER_BACKEND': value, 'PYTHONPATH': os.getcwd()}
    environment.pop('TRITON_INTERPRET', None)
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
