"""What a step launches on a GPU and moves through its memory, counted on a machine without one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._library.custom_ops import OPDEFS
from torch._subclasses.fake_tensor import FakeTensorMode

from weightformer_mm.layers import fused
from weightformer_mm.ops._shared.operators import NAMESPACE

from .ceilings import Ceilings
from .kinds import KindCounter, moved
from .steps import DTYPES, Case

# multiply-adds of a kernel, from its tensors and constants; the others have none that count
_WORK = {
    'linear_kernel': lambda x, *_, N, **__: x.numel() * N,
    'mlp_kernel': lambda x, *_, D, **__: 2 * x.numel() * D,
    'weight_grad_kernel': lambda left, right, second, *_, N, **__: (
        left.numel() * N * (1 if second is None else 2)
    ),
    'conv3x3_kernel': lambda x, *_, **__: 9 * x.numel(),
    'conv3x3_grad_kernel': lambda x, *_, **__: 18 * x.numel(),
    'pooled_linear_kernel': lambda x, weight, bias, out, *_, C, **__: out.numel() * C,
    'correlation_kernel': lambda z, *_, P, Q, **__: z.numel() // (P + Q) * P * Q,
    'correlation_backward_kernel': lambda grad, z, *_, P, Q, **__: 2 * z.numel() // (P + Q) * P * Q,
    'bilateral_weight_kernel': lambda cores, left, right, weight, update, out, *_, P, Q, C, M, **__: (
        out.numel() // (C * M) * P * (Q + C) * M
    ),
    'bilateral_columns_grad_kernel': lambda grad, *_, P, Q, C, **__: (
        grad.numel() // C * P * (C + 2 * Q)
    ),
    'bilateral_sides_grad_kernel': lambda left, *_, Q, C, **__: left.numel() * (C + Q),
    'pooled_linear_grad_kernel': lambda grad, *_, C, **__: grad.numel() * C,
    'bounded_taps_kernel': lambda hidden, *_, C, **__: hidden.numel() * C,
    'bounded_taps_grad_kernel': lambda grad, *_, C, **__: grad.numel() * C,
}
# operations whose whole backward pass belongs to a prediction
_PREDICTIONS = ('adaptive_kernel', 'bilateral_weight')
# neither launch a kernel nor move a byte
_FREE = ('detach', 'device', 'empty', 'empty_like', 'empty_strided', 'lift_fresh', 'new_empty')


@dataclass(frozen=True)
class Launch:
    """A kernel on the GPU."""

    kind: str
    multiply_adds: int
    bytes: int

    def least_ms(self, ceilings: Ceilings, launch_us: float) -> float:
        """The longest of what its arithmetic, its bytes and its launch take."""
        seconds = ceilings.least_seconds(self.multiply_adds, self.bytes)
        return max(seconds * 1e3, launch_us / 1e3)


class LaunchCounter(KindCounter):
    """Counts every operation as one kernel, and those of this package by the kernels that they launch.

    Attributes:
        launches: in the order of the step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Launch] = []
        self.node: Any = None  # whose backward pass runs

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        namespace, _, name = func._schema.name.partition('::')
        if name.rstrip('_') in _FREE:
            return func(*args, **(kwargs or {}))
        if namespace == NAMESPACE:
            with self._recording(self._kind(func, args)), self:
                OPDEFS[func._schema.name]._init_fn.__wrapped__(*args)
            return func(*args)
        before = [Counter(counter) for counter in (self.calls, self.multiply_adds, self.bytes)]
        output = super().__torch_dispatch__(func, types, args, kwargs)
        for kind in self.calls - before[0]:
            work, count = (
                self.multiply_adds[kind] - before[1][kind],
                self.bytes[kind] - before[2][kind],
            )
            self.launches.append(Launch(kind, work, count))
        return output

    @contextmanager
    def _recording(self, kind: str) -> Iterator[None]:
        """Note the launches of Triton kernels, which read or write each of their tensors once."""
        from triton.runtime.jit import KernelInterface

        def launcher(kernel: Any, grid: Any) -> Any:
            def launch(*args: Any, **constants: Any) -> None:
                count = _WORK.get(kernel.__name__)
                work = count(*args, **constants) if count else 0
                self.launches.append(Launch(kind, work, moved(args, {}, ())))

            return launch

        with mock.patch.object(KernelInterface, '__getitem__', launcher):
            yield

    def _in_predictor(self) -> bool:
        if self._entered or self.node is None:
            return bool(self._entered)
        if any(name in self.node.name() for name in _PREDICTIONS):
            return True
        return any(self.node._sequence_nr() in numbers for numbers in self._predictors)


def trace_step(model: nn.Module, case: Case) -> list[Launch]:
    """The kernels of a step on fake GPU tensors; half precision under autocast, as on a GPU.

    Args:
        model: on the CPU; its parameters are lost.
    """
    counter = LaunchCounter()
    # parameters are unchanged, but for being fake
    unchanged = mock.patch.object(fused, '_has_its_parameters', return_value=True)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, unchanged, _autocast(case.dtype), counter.watch(model):
        _to_fake_gpu(model)
        model.train(case.mode == 'train')
        images = torch.empty(case.batch, 3, *case.size, device='cuda')
        with counter, torch.set_grad_enabled(case.mode == 'train'):
            outputs = list(model(images))
        if case.mode == 'train':
            upstream = [torch.empty_like(output) for output in outputs]
            torch.set_autocast_enabled('cuda', False)
            with counter, torch.no_grad():
                _backward(outputs, upstream, counter)
    return counter.launches


@contextmanager
def _autocast(dtype: str) -> Iterator[None]:
    """Autocast on a GPU; `torch.autocast` would switch itself off where there is none."""
    before = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
    torch.set_autocast_enabled('cuda', dtype != 'float32')
    torch.set_autocast_dtype('cuda', DTYPES[dtype] if dtype != 'float32' else before[1])
    try:
        yield
    finally:
        torch.set_autocast_enabled('cuda', before[0])
        torch.set_autocast_dtype('cuda', before[1])
        torch.clear_autocast_cache()


def _to_fake_gpu(model: nn.Module) -> None:
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model.to_empty(device='cuda')
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _backward(
    outputs: Sequence[Tensor], upstream: Sequence[Tensor], counter: LaunchCounter
) -> None:
    """Run the backward pass node by node: autograd's engine needs the GPU of the tensors.

    Gradients of parameters are made, but not added to an earlier step's.
    """
    waiting = _dependencies(outputs)
    gradients: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    for output, gradient in zip(outputs, upstream):
        gradients[output.grad_fn][output.output_nr] = gradient
    ready = [node for node in gradients if not waiting[node]]
    while ready:
        node = counter.node = ready.pop()
        for (parent, index), gradient in zip(
            node.next_functions, _run(node, gradients.pop(node, {}))
        ):
            if parent is None:
                continue
            if gradient is not None:
                # as autograd's engine does with what a broadcast or a conversion left
                like = parent._input_metadata[index]
                gradient = gradient.sum_to_size(like.shape).to(like.dtype)
                others = gradients[parent]
                others[index] = others[index] + gradient if index in others else gradient
            waiting[parent] -= 1
            if not waiting[parent]:
                ready.append(parent)
    counter.node = None


def _dependencies(outputs: Sequence[Tensor]) -> Counter[Any]:
    """How many nodes pass a gradient to each node."""
    found: Counter[Any] = Counter()
    seen, stack = set(), [output.grad_fn for output in outputs]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            parents = [parent for parent, _ in node.next_functions if parent is not None]
            found.update(parents)
            stack += parents
    return found


def _run(node: Any, gradients: dict[int, Tensor]) -> Sequence[Tensor | None]:
    """Gradients for the node's parents, from those of its outputs."""
    if not gradients or not node.next_functions:
        return [None] * len(node.next_functions)
    arguments = [gradients.get(index) for index in range(len(node._input_metadata))]
    # a node written in Python is not called itself
    results = node.apply(*arguments) if hasattr(node, 'apply') else node(*arguments)
    return results if isinstance(results, tuple) else (results,)
