"""Tests that run the Triton kernels: interpreted on the CPU, or compiled where there is a GPU.

Triton reads ``TRITON_INTERPRET`` when it is imported, so the tests of this folder need a process that was
started with ``TRITON_INTERPRET=1``: `tests/ops/test_interpreted.py` starts one.
"""

from __future__ import annotations

import os

import pytest
import torch

INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
if not (INTERPRETED or torch.cuda.is_available()):
    collect_ignore_glob = ['test_*.py']
if INTERPRETED:  # in a process of its own, where no conftest.py from above is read
    from tests.conftest import pytest_collection, pytest_collection_finish  # noqa: F401


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
    """Let the interpreter treat bfloat16 as GPUs do.

    It cuts float32 off instead of rounding it, slowly, and multiplies matrices of bfloat16 as integers.
    """
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

    dot = interpreter.InterpreterBuilder.create_dot

    def widened(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        values = original(handle.data, tl.bfloat16, tl.float32, None).view(np.float32)
        return interpreter.TensorHandle(values, tl.float32)

    def product(self, left, right, *others):
        return dot(self, widened(left), widened(right), *others)

    interpreter._convert_float = convert
    interpreter.InterpreterBuilder.create_dot = product
    yield
    interpreter._convert_float = original
    interpreter.InterpreterBuilder.create_dot = dot


@pytest.fixture(scope='session', autouse=True)
def quick():
    """Let the interpreter set ``triton.language`` up once per launch for each device function.

    It does so at each call, which takes most of its time.
    """
    if not INTERPRETED:
        yield
        return
    from triton.runtime.interpreter import GridExecutor, InterpretedFunction, _patch_lang

    launch, call, ready = GridExecutor.__call__, InterpretedFunction.__call__, set()

    def quick_launch(self, *args, **kwargs):
        ready.clear()
        return launch(self, *args, **kwargs)

    def quick_call(self, *args, **kwargs):
        if self.fn not in ready:
            ready.add(self.fn)
            _patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    GridExecutor.__call__, InterpretedFunction.__call__ = quick_launch, quick_call
    yield
    GridExecutor.__call__, InterpretedFunction.__call__ = launch, call


@pytest.fixture(scope='session', autouse=True)
def light():
    """Spare the interpreter what takes half of its time, with no effect on these small maps.

    It adds and multiplies integers again, in int64, to see that they fit; it makes a table of all types to
    look one up; it writes the type of each shape as text; and it compares shapes element by element, and
    makes them anew for each value.
    """
    if not INTERPRETED:
        yield
        return
    from triton.language import core, semantic
    from triton.runtime import interpreter

    original, tables = interpreter._get_np_dtype, {}

    def numpy_type(kind):
        if kind.scalar.name not in tables:
            tables[kind.scalar.name] = original(kind.scalar)
        return tables[kind.scalar.name]

    write, read = core.tuple.__init__, core.tuple.__getattr__

    def init(self, args, type=None):
        self.values = list(args)
        if type is not None:
            write(self, args, type)

    def late(self, name):
        if name == 'type':
            self.type = core._type_for_tuple_values(self.values)
            return self.type
        return read(self, name)

    compatible = semantic.TritonSemantic.broadcast_impl_value

    def quickly_compatible(self, left, right):
        if left.type.is_block() and right.type.is_block():
            if left.type.shape.values == right.type.shape.values:
                return left, right
        return compatible(self, left, right)

    original_tensor, shapes = core.tensor.__init__, {}

    def tensor(self, handle, type):
        key = (*type.shape.values,) if type.is_block() else ()
        if key not in shapes:
            original_tensor(self, handle, type)
            shapes[key] = self.shape, self.numel
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = shapes[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic.TritonSemantic, 'broadcast_impl_value', quickly_compatible)
        patch.setattr(core.tensor, '__init__', tensor)
        options = interpreter.InterpreterOptions(sanitize_overflow=False)
        patch.setattr(interpreter.interpreter_builder, 'options', options)
        patch.setattr(interpreter, '_get_np_dtype', numpy_type)
        patch.setattr(core.tuple, '__init__', init)
        patch.setattr(core.tuple, '__getattr__', late)
        yield


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fill uninitialised memory with NaN, or the largest integer, so that what is not written shows."""

    def filled(allocate):
        def allocation(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            if isinstance(tensor, torch._subclasses.FakeTensor) or tensor.is_meta:
                return tensor
            value = float('nan') if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max
            with torch.no_grad():
                return tensor.fill_(value)

        return allocation

    for owner, name in [(torch, 'empty'), (torch, 'empty_like'), (torch.Tensor, 'new_empty')]:
        monkeypatch.setattr(owner, name, filled(getattr(owner, name)))
