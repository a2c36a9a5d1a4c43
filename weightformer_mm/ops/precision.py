"""Where predicted parameters are computed: at least in float32, whatever autocast says."""

from __future__ import annotations

import contextlib
import functools

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from .compat import AUTOCAST_DEVICES, is_compiling

_HALF = (torch.float16, torch.bfloat16)


def at_least_float32(function):
    """Run ``function`` outside autocast, with each half-precision argument converted to float32.

    A predicted parameter sums over all tokens of an image; float16 would overflow and bfloat16 lose the
    sum. float32 and float64 arguments pass unchanged, so float64 stays float64.
    """

    @functools.wraps(function)
    def wrapper(x, *args, **kwargs):
        with without_autocast(x.device.type):
            args = [_promote(argument) for argument in args]
            kwargs = {name: _promote(argument) for name, argument in kwargs.items()}
            return function(_promote(x), *args, **kwargs)

    return wrapper


def predict(predictor: nn.Module, x: Tensor) -> Tensor:
    """Call a predictor as `at_least_float32` calls a function: input and parameters in at least float32.

    One whose own class has a true attribute ``takes_half`` converts the map itself, while it reads it.

    A predictor in half precision is called as a copy that shares all with it but has float32 parameters and
    buffers: what it writes to these is lost, and threads may share it.
    """
    if not vars(type(predictor)).get('takes_half', False):
        x = _promote(x)
    with without_autocast(x.device.type):
        state = {**dict(predictor.named_parameters()), **dict(predictor.named_buffers())}
        if not any(tensor.dtype in _HALF for tensor in state.values()):
            return predictor(x)
        if is_compiling():  # exchanges them during the call, which is traced once
            promoted = {name: _promote(tensor) for name, tensor in state.items()}
            return torch.func.functional_call(predictor, promoted, (x,))
        if any('forward' in vars(module) for module in predictor.modules()):
            with _Promotion():  # such a function may hold on to the original
                return predictor(_promote(x))
        return _promoted_copy(predictor, {})(x)


def _promoted_copy(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """The module with other tensors; a module that stands in it twice is copied once."""
    if module not in made:
        made[module] = copy = object.__new__(type(module))
        vars(copy).update(vars(module))
        for kind in ('_parameters', '_buffers'):
            tensors = vars(module)[kind]
            vars(copy)[kind] = {name: _promote(tensor) for name, tensor in tensors.items()}
        vars(copy)['_modules'] = {
            name: None if child is None else _promoted_copy(child, made)
            for name, child in module._modules.items()
        }
    return made[module]


class _Promotion(TorchFunctionMode):
    """Converts the arguments of each operation as it runs: slower, but nothing is copied or written."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*tree_map(_promote, args), **tree_map(_promote, kwargs or {}))


def without_autocast(device_type: str):
    """A context in which autocast is off on this kind of device."""
    if device_type not in AUTOCAST_DEVICES:
        return contextlib.nullcontext()
    return torch.autocast(device_type=device_type, enabled=False)


def _promote(argument):
    if isinstance(argument, torch.Tensor) and argument.dtype in _HALF:
        return argument.float()
    return argument
