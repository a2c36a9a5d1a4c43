"""Which backend runs, and what the log and the errors say about it."""

from __future__ import annotations

import importlib.util
import logging
from types import SimpleNamespace

import pytest
import torch

from tests.helpers import needs
from weightformer_mm.ops._shared import dispatch
from weightformer_mm.ops._shared.dispatch import choose_backend

ON_CPU = torch.zeros(2)
ELSEWHERE = {'cpu': ON_CPU, 'meta': torch.zeros(2, device='meta')}


@pytest.fixture(autouse=True)
def nothing_from_the_environment(monkeypatch):
    monkeypatch.setattr(dispatch, '_default', 'auto')
    monkeypatch.setattr(dispatch, '_INTERPRETED', False)
    dispatch._say_once.cache_clear()


@pytest.fixture
def on_gpu(monkeypatch):
    """What is asked of a tensor on a GPU of compute capability 9.0."""
    monkeypatch.setattr(dispatch, '_WITHOUT_TRITON', None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    return SimpleNamespace(device=torch.device('cuda'), dtype=torch.float32)


def test_auto_uses_triton_only_on_gpus_that_have_been_verified(on_gpu, monkeypatch):
    monkeypatch.setattr(dispatch, 'VERIFIED', {(8, 0): 'another GPU'})
    assert choose_backend('auto', on_gpu) == 'torch'
    monkeypatch.setattr(dispatch, 'VERIFIED', {(9, 0): 'this GPU'})
    assert choose_backend('auto', on_gpu) == 'triton'
    assert choose_backend('auto', on_gpu, 'not these arguments') == 'torch'
    on_gpu.dtype = torch.float64
    assert choose_backend('auto', on_gpu) == 'torch'


def test_the_log_says_once_how_to_switch_to_triton(on_gpu, caplog):
    with caplog.at_level(logging.INFO, logger=dispatch.__name__):
        assert [choose_backend('auto', on_gpu) for _ in range(3)] == ['torch'] * 3
    (line,) = caplog.messages
    assert "PyTorch's own operations" in line and "backend='triton'" in line
    assert choose_backend('triton', on_gpu) == 'triton'


def test_the_log_says_what_else_stands_in_the_way(on_gpu, monkeypatch, caplog):
    monkeypatch.setattr(dispatch, '_WITHOUT_TRITON', 'Triton is not installed')
    with caplog.at_level(logging.INFO, logger=dispatch.__name__):
        assert choose_backend('auto', on_gpu) == 'torch'
    assert 'Triton is not installed' in caplog.text


@pytest.mark.parametrize('device', ELSEWHERE)
def test_without_a_gpu_auto_is_pytorch_and_triton_an_error(device, caplog):
    x = ELSEWHERE[device]
    with caplog.at_level(logging.INFO, logger=dispatch.__name__):
        assert choose_backend('auto', x) == 'torch'
    assert not caplog.messages
    with pytest.raises(ValueError, match=needs.TRITON_OBSTACLE or 'need a GPU'):
        choose_backend('triton', x)


def test_without_triton_asking_for_it_is_an_error(monkeypatch):
    monkeypatch.setattr(dispatch, '_WITHOUT_TRITON', 'Triton is not installed')
    with pytest.raises(ValueError, match='Triton is not installed'):
        choose_backend('triton', ON_CPU)


@needs.triton
def test_interpreted_kernels_run_only_when_asked_for(monkeypatch):
    monkeypatch.setattr(dispatch, '_INTERPRETED', True)
    assert choose_backend('triton', ON_CPU) == 'triton'
    assert choose_backend('auto', ON_CPU) == 'torch'
    with pytest.raises(ValueError, match='float64'):
        choose_backend('triton', ON_CPU.double())


def test_unknown_names_list_the_valid_ones(monkeypatch):
    with pytest.raises(ValueError, match="'cuda'; choose one of auto, torch, triton"):
        choose_backend('cuda', ON_CPU)
    monkeypatch.setattr(dispatch, '_default', 'fast')
    with pytest.raises(ValueError, match='WEIGHTFORMER_BACKEND=fast: choose one of auto'):
        choose_backend('auto', ON_CPU)


def test_environment_decides_for_auto_alone(monkeypatch):
    """It is read when the module is imported: here once more, beside the one that is in use."""
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    again = importlib.util.module_from_spec(dispatch.__spec__)
    monkeypatch.setenv('WEIGHTFORMER_BACKEND', 'torch')
    dispatch.__loader__.exec_module(again)
    assert again.choose_backend('torch', ON_CPU) == again.choose_backend('auto', ON_CPU) == 'torch'
    monkeypatch.setenv('WEIGHTFORMER_BACKEND', 'triton')
    dispatch.__loader__.exec_module(again)
    assert again.choose_backend('torch', ON_CPU) == 'torch'
    with pytest.raises(ValueError, match='WEIGHTFORMER_BACKEND=triton'):
        again.choose_backend('auto', ON_CPU)
