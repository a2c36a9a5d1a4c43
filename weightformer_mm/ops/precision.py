"""Where predicted parameters are computed: at least in float32, whatever autocast says."""

from __future__ import annotations

import contextlib
import functools

import torch
from torch import Tensor, nn

from .compat import AUTOCAST_DEVICES

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

    In a predictor in half precision, parameters and buffers are exchanged for float32 copies during the
    call: what it writes to its buffers is lost, and threads must not share it.
    """
    state = {**dict(predictor.named_parameters()), **dict(predictor.named_buffers())}
    if not vars(type(predictor)).get('takes_half', False):
        x = _promote(x)
    with without_autocast(x.device.type):
        if not any(tensor.dtype in _HALF for tensor in state.values()):
            return predictor(x)
        promoted = {name: _promote(tensor) for name, tensor in state.items()}
        return torch.func.functional_call(predictor, promoted, (x,))


def without_autocast(device_type: str):
    """A context in which autocast is off on this kind of device."""
    if device_type not in AUTOCAST_DEVICES:
        return contextlib.nullcontext()
    return torch.autocast(device_type=device_type, enabled=False)


def _promote(argument):
    if isinstance(argument, torch.Tensor) and argument.dtype in _HALF:
        return argument.float()
    return argument
