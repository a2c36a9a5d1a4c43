"""Tests that run the Triton kernels: interpreted on the CPU, or compiled where there is a GPU.

Triton reads ``TRITON_INTERPRET`` when it is imported, so the tests of this folder need a process that was
started with ``TRITON_INTERPRET=1``: `tests/ops/test_interpreted.py` starts one for each file.
"""

from __future__ import annotations

import functools
import math
import os

import pytest
import torch

INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
if not (INTERPRETED or torch.cuda.is_available()):
    collect_ignore_glob = ['test_*.py']


def pytest_report_header() -> str:
    if INTERPRETED:
        return 'triton: kernels interpreted on the CPU'
    if torch.cuda.is_available():
        return f'triton: kernels compiled for {torch.cuda.get_device_name()}'
    return 'triton: no GPU, so tests/ops/interpreted needs TRITON_INTERPRET=1'


@pytest.fixture(scope='session')
def device() -> torch.device:
    """Where the kernels run here."""
    return torch.device('cpu' if INTERPRETED else 'cuda')


@pytest.fixture(scope='session', autouse=True)
def rounding():
    """Let the interpreter round float32 to the nearest bfloat16, as GPUs do; it cuts off, and is slow."""
    if not INTERPRETED:
        yield
        return
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    original = interpreter._convert_float

    def convert(values, source, target, mode):
        if (source, target) != (tl.float32, tl.bfloat16):
            return original(values, source, target, mode)
        rounded = torch.from_numpy(np.array(values, dtype=np.float32)).bfloat16()
        return rounded.view(torch.int16).numpy().view(np.uint16)

    interpreter._convert_float = convert
    yield
    interpreter._convert_float = original


@pytest.fixture(scope='session', autouse=True)
def quick():
    """Spare the interpreter what takes most of its time, and computes nothing of a kernel.

    It sets ``triton.language`` up at each call of a device function: here, once per launch. And it describes
    the type of each value anew: here, once per type.
    """
    if not INTERPRETED:
        yield
        return
    import triton.language.core as tl
    from triton.runtime import interpreter
    from triton.runtime.interpreter import GridExecutor, InterpretedFunction, _patch_lang

    launch, ready = GridExecutor.__call__, set()
    describe, dtype_of = tl.block_type.__init__, interpreter._get_np_dtype
    blocks, dtypes, shape_of = {}, {}, functools.lru_cache(_shape)

    def quick_launch(self, *args, **kwargs):
        ready.clear()
        return launch(self, *args, **kwargs)

    def quick_call(self, *args, **kwargs):
        if self.fn not in ready:
            ready.add(self.fn)
            _patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    def quick_block(self, element, shape):
        key = (str(element), *map(tl._unwrap_if_constexpr, shape))
        if key not in blocks:
            describe(self, element, shape)
            blocks[key] = vars(self)
        vars(self).update(blocks[key])

    def quick_dtype(type):
        if str(type) not in dtypes:
            dtypes[str(type)] = dtype_of(type)
        return dtypes[str(type)]

    def quick_tensor(self, handle, type):
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = shape_of(tuple(type.shape) if type.is_block() else ())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GridExecutor, '__call__', quick_launch)
        patch.setattr(InterpretedFunction, '__call__', quick_call)
        patch.setattr(tl.block_type, '__init__', quick_block)
        patch.setattr(tl.tensor, '__init__', quick_tensor)
        patch.setattr(interpreter, '_get_np_dtype', quick_dtype)
        yield


def _shape(shape: tuple[int, ...]) -> tuple:
    """The attributes ``shape`` and ``numel`` of a tensor of Triton."""
    import triton.language.core as tl

    return tl.tuple([tl.constexpr(size) for size in shape]), tl.constexpr(math.prod(shape))


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fill uninitialised memory with NaN, or the largest integer, so that what is not written shows."""

    def filled(allocate):
        def allocation(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            if isinstance(tensor, torch._subclasses.FakeTensor) or tensor.is_meta:
                return tensor
            value = float('nan') if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max
            return tensor.fill_(value)

        return allocation

    for owner, name in [(torch, 'empty'), (torch, 'empty_like'), (torch.Tensor, 'new_empty')]:
        monkeypatch.setattr(owner, name, filled(getattr(owner, name)))
