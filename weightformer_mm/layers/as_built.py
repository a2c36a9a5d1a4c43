"""Whether modules are what the layers built, so that an operation may take their parameters directly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

# class → what else must hold for its `forward` to be what it was
_BUILT: dict[type, Callable[[nn.Module], bool]] = {
    nn.Conv2d: lambda conv: True,  # of any geometry; see `has_geometry`
    nn.Dropout: lambda dropout: True,
    nn.GELU: lambda gelu: gelu.approximate == 'none',
    nn.Identity: lambda identity: True,
    nn.Linear: lambda linear: True,
}


def built(module_class: type) -> type:
    """Class decorator for a layer of this package; its method ``keeps_form``, if any, is asked as well."""
    _BUILT[module_class] = getattr(module_class, 'keeps_form', lambda module: True)
    return module_class


def as_built(*modules: nn.Module, bias: bool = True) -> bool:
    """False once a module was replaced (adapters, quantisation), parametrised, pruned, hooked or wrapped.

    What was added to it then takes part only if the module itself is called.

    Args:
        bias: whether those that may have a bias were built with one.
    """
    return all(
        type(module) in _BUILT
        and untouched(module)
        and _has_its_parameters(module, bias)
        and _BUILT[type(module)](module)
        for module in modules
    )


def has_geometry(
    conv: nn.Conv2d, size: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> bool:
    """Whether a square convolution still works as it was built, undilated and with zeros outside."""
    squares = [(side, side) for side in (size, stride, padding, 1)]
    found = [conv.kernel_size, conv.stride, conv.padding, conv.dilation]
    return found == squares and (conv.groups, conv.padding_mode) == (groups, 'zeros')


def untouched(module: nn.Module) -> bool:
    """Whether calling the module is nothing but its class's ``forward``."""
    return (
        'forward' not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and not module._backward_pre_hooks
    )


def _has_its_parameters(module: nn.Module, bias: bool) -> bool:
    """Whether none is missing or added, or a tensor of a subclass, which may compute otherwise.

    In a predictor of half precision they are plain tensors, converted for the call.
    """
    parameters = module._parameters
    if 'bias' in parameters and (parameters['bias'] is not None) != bias:
        return False
    return all(
        type(value) in (nn.Parameter, torch.Tensor)
        for name, value in parameters.items()
        if bias or name != 'bias'
    )
