"""Counting the operations of one forward pass, module by module."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from ...utils.patches import replaced
from .extensions import watch_mmcv
from .operations import FORMULAS, fresh_outputs, is_free


@dataclass
class Counts:
    """What was seen. A module is named as in ``named_modules()``, the model itself by the empty string.

    Attributes:
        multiply_adds: by innermost module and operation.
        elements, bytes: sizes of all tensors that operations allocated, by innermost module.
        free: calls of operations that count as nothing by convention.
        not_counted: calls of operations that do arithmetic, for all that is known, and were not counted.
        counted_inside: of those, the ones in which other, counted operations were seen.
        used: parameters that operations took.
        failed_in: innermost module in which an exception was raised.
    """

    multiply_adds: Counter[tuple[str, str]] = field(default_factory=Counter)
    elements: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    free: Counter[str] = field(default_factory=Counter)
    not_counted: Counter[str] = field(default_factory=Counter)
    counted_inside: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    failed_in: str | None = None

    @property
    def total(self) -> int:
        """Multiply-adds of the whole model."""
        return sum(self.multiply_adds.values())


@contextmanager
def count_operations(model: nn.Module) -> Iterator[Counts]:
    """Count what ``model`` computes inside the block, without gradients.

    One multiply-add counts as one. Which operations count is said in `operations`.
    """
    counts, stack = Counts(), ['']
    with ExitStack() as contexts:
        contexts.enter_context(torch.no_grad())
        contexts.enter_context(_frozen(model))
        contexts.enter_context(_no_fused_transformer_layers())
        contexts.enter_context(_named_modules(model, counts, stack))
        counter = _Counter(model, counts, stack)
        contexts.enter_context(watch_mmcv(counter.record_extension))
        contexts.enter_context(counter.flops)
        contexts.enter_context(counter)
        yield counts


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient.

    Even without gradients PyTorch multiplies matrices differently by it, and its counter's module tracker
    trips over views of such parameters.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


class _Counter(TorchDispatchMode):
    """Passes each operation on to PyTorch's counter and notes what that one added."""

    def __init__(self, model: nn.Module, counts: Counts, stack: list[str]):
        super().__init__()
        self.parameters = {id(parameter): name for name, parameter in model.named_parameters()}
        self.counts, self.stack = counts, stack
        self.flops = FlopCounterMode(display=False, custom_mapping=FORMULAS)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        leaves, _ = tree_flatten((args, kwargs))
        known = self.parameters
        self.counts.used |= {known[id(leaf)] for leaf in leaves if id(leaf) in known}
        before = self.flops.get_total_flops()
        output = func(*args, **(kwargs or {}))
        self._record(func, output, self.flops.get_total_flops() - before)
        return output

    def _record(self, func: Any, output: Any, flops: int) -> None:
        module, name = self.stack[-1], func._schema.name
        for tensor in fresh_outputs(func, output):
            self.counts.elements[module] += tensor.numel()
            self.counts.bytes[module] += tensor.numel() * tensor.element_size()
        if flops:
            self.counts.multiply_adds[module, name] += flops // 2
        elif is_free(func):
            self.counts.free[name] += 1
        # with no proposals, say, an operation that has a formula finds nothing to do
        elif not self._has_formula(func):
            self.counts.not_counted[name] += 1

    def _has_formula(self, func: Any) -> bool:
        return func._overloadpacket in self.flops.get_flop_counts().get('Global', {})

    def record_extension(self, name: str, call: Callable[[], Any]) -> Any:
        before = self.flops.get_total_flops()
        output = call()
        self.counts.not_counted[name] += 1
        if self.flops.get_total_flops() > before:
            self.counts.counted_inside.add(name)
        return output


@contextmanager
def _named_modules(model: nn.Module, counts: Counts, stack: list[str]) -> Iterator[None]:
    """Keep on ``stack`` whose forward runs.

    Hooks would miss ``module.forward(x)``, which mmseg calls on its heads.
    """
    modules = {
        name: module
        for name, module in model.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)
    }
    with ExitStack() as replacements:
        for name, module in modules.items():
            forward = _tracked(name, module.forward, counts, stack)
            replacements.enter_context(replaced(module, forward=forward))
        yield


def _tracked(name: str, forward: Callable, counts: Counts, stack: list[str]) -> Callable:
    @functools.wraps(forward)
    def tracked(*args: Any, **kwargs: Any) -> Any:
        stack.append(name)
        try:
            return forward(*args, **kwargs)
        except Exception:
            counts.failed_in = counts.failed_in or name
            raise
        finally:
            stack.pop()

    return tracked


class _PassOn(TorchFunctionMode):
    """Overrides every function with itself."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def _no_fused_transformer_layers() -> Iterator[None]:
    """PyTorch's own transformer layers would run as one operation that hides what is in it."""
    backend = getattr(torch.backends, 'mha', None)
    if backend is None:  # torch < 2.3 has no switch, but leaves alone what somebody overrides
        with _PassOn():
            yield
        return
    enabled = backend.get_fastpath_enabled()
    try:
        backend.set_fastpath_enabled(False)
        yield
    finally:
        backend.set_fastpath_enabled(enabled)
