"""Counting the operations of one forward pass, module by module."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import BaseTorchFunctionMode
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from ...utils.patches import replaced
from .operations import FORMULAS, fresh_outputs, is_free


def flop_formulas(additional: dict) -> dict[object, Callable[..., int]]:
    """PyTorch's formula for each operator: ``formula(*args, **kwargs, out_val=output)``, in FLOPs.

    ``additional`` holds formulas on shapes, as ``FlopCounterMode(custom_mapping=...)`` takes them.
    """
    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=additional)
    if hasattr(counter, 'flop_registry'):
        return counter.flop_registry

    def on_tensors(formula: Callable[..., int]) -> Callable[..., int]:  # torch 2.1
        def called(*args: object, out_val: object, **kwargs: object) -> int:
            args, kwargs, shape = tree_map(flop_counter.get_shape, (args, kwargs, out_val))
            return formula(*args, **kwargs, out_shape=shape)

        return called

    return {operator: on_tensors(formula) for operator, formula in counter.flop_mapping.items()}


@dataclass
class Counts:
    """What one forward pass did. Modules are named as in ``named_modules()``; the model itself is ``''``."""

    multiply_adds: Counter[tuple[str, str]] = field(default_factory=Counter)  # by module, operation
    elements: Counter[str] = field(default_factory=Counter)  # allocated by a module's operations
    bytes: Counter[str] = field(default_factory=Counter)
    free: Counter[str] = field(default_factory=Counter)  # calls that count as nothing by convention
    not_counted: Counter[str] = field(default_factory=Counter)  # calls that may do arithmetic
    used: set[str] = field(default_factory=set)  # parameters

    @property
    def total(self) -> int:
        """Multiply-adds of the whole model."""
        return sum(self.multiply_adds.values())


@contextmanager
def count_operations(model: nn.Module) -> Iterator[Counts]:
    """Count what ``model`` computes inside the block, without gradients.

    One multiply-add counts as one; `operations` says which operations count.
    """
    counter = _Counter(model)
    with ExitStack() as contexts:
        contexts.enter_context(torch.no_grad())
        # PyTorch's transformer layers run as one fused operation unless a mode overrides functions
        contexts.enter_context(BaseTorchFunctionMode())
        for parameter in model.parameters():
            # even without gradients PyTorch multiplies matrices differently for a parameter that needs one
            contexts.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        counter.follow_modules(model, contexts)
        counter.follow_mmcv(contexts)
        contexts.enter_context(counter)
        yield counter.counts


class _Counter(TorchDispatchMode):
    """Sees every operation that PyTorch dispatches."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.counts = Counts()
        self._parameters = {id(parameter): name for name, parameter in model.named_parameters()}
        self._formulas = flop_formulas(FORMULAS)
        self._running = ['']  # modules, the innermost last

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        counts, module, name = self.counts, self._running[-1], func._schema.name
        leaves = map(id, tree_flatten((args, kwargs))[0])
        counts.used.update(self._parameters[leaf] for leaf in leaves if leaf in self._parameters)
        for tensor in fresh_outputs(func, output):
            counts.elements[module] += tensor.numel()
            counts.bytes[module] += tensor.numel() * tensor.element_size()
        formula = self._formulas.get(func._overloadpacket)
        if formula is not None:
            # the count may be 0, for instance if there are no proposals
            if flops := int(formula(*args, **kwargs, out_val=output)):
                counts.multiply_adds[module, name] += flops // 2
        elif is_free(func):
            counts.free[name] += 1
        else:
            counts.not_counted[name] += 1
        return output

    def follow_modules(self, model: nn.Module, contexts: ExitStack) -> None:
        """Track which module runs. Hooks would miss ``module.forward(x)``, which mmseg calls on its heads."""
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):
                forward = self._followed(name, module.forward)
                contexts.enter_context(replaced(module, forward=forward))

    def _followed(self, name: str, forward: Callable) -> Callable:
        @functools.wraps(forward)
        def followed(*args: Any, **kwargs: Any) -> Any:
            self._running.append(name)
            try:
                return forward(*args, **kwargs)
            finally:
                self._running.pop()

        return followed

    def follow_mmcv(self, contexts: ExitStack) -> None:
        """Record calls of mmcv's compiled operators, which PyTorch does not dispatch."""
        try:
            module = import_module('mmcv._ext')
        except ModuleNotFoundError:  # no mmcv, or only mmcv-lite
            return
        for name, operator in list(vars(module).items()):
            if callable(operator):
                noted = self._noted(f'mmcv::{name.removesuffix("_forward")}', operator)
                contexts.enter_context(replaced(module, **{name: noted}))

    def _noted(self, label: str, operator: Callable) -> Callable:
        @functools.wraps(operator)
        def noted(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(leaf, FakeTensor) for leaf in tree_flatten((args, kwargs))[0]):
                raise RuntimeError(f'{label} cannot run without values')
            self.counts.not_counted[label] += 1
            return operator(*args, **kwargs)

        return noted
