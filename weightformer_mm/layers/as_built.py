"""Whether modules are what the layers built, so that an operation may take their parameters directly."""

from __future__ import annotations

from torch import nn

from .dynamic_depthwise_conv import DynamicDepthwiseConv2d
from .dynamic_linear import DynamicLinear
from .primitives import DepthwiseConv2d, DropPath, LayerNorm, Linear

_BUILT = (
    DepthwiseConv2d,
    DropPath,
    DynamicDepthwiseConv2d,
    DynamicLinear,
    LayerNorm,
    Linear,
    nn.Dropout,
    nn.Identity,
)


def as_built(*modules: nn.Module) -> bool:
    """False once a module was replaced (adapters, quantisation), parametrised, hooked or wrapped.

    What was added to it then takes part only if the module itself is called.
    """
    return all(
        type(module) in _BUILT and untouched(module) and has_plain_parameters(module)
        for module in modules
    )


def has_plain_parameters(module: nn.Module) -> bool:
    """Whether its own parameters are no tensors of a subclass, which may compute otherwise."""
    return all(type(parameter) is nn.Parameter for parameter in module.parameters(recurse=False))


def untouched(module: nn.Module) -> bool:
    """Whether calling the module is nothing but its class's ``forward``."""
    return (
        'forward' not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and not module._backward_pre_hooks
    )
