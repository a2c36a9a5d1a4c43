"""What kind each operation of a training step is, and what work it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from weightformer_mm.analysis.complexity.operations import FORMULAS, is_view
from weightformer_mm.ops._shared.operators import NAMESPACE

MATMUL = 'matrix products'
DEPTHWISE = 'depthwise convolution'
CONV = 'other convolution (stem, downsampling)'
NORM = 'LayerNorm'
GELU = 'GELU'
PREDICTION = 'prediction'
ATTENTION = 'attention'
ELEMENTWISE = 'elementwise and copies'
ALLOCATION = 'memory allocation'
KINDS = (MATMUL, DEPTHWISE, CONV, NORM, GELU, PREDICTION, ATTENTION, ELEMENTWISE, ALLOCATION)
LABEL = 'kind: '  # of the profiler's records

_PRODUCTS = ('mm', 'addmm', 'bmm', 'baddbmm', 'linear', 'mv', 'addmv', '_addmm_activation')
_BY_NAME = {
    **dict.fromkeys(_PRODUCTS, MATMUL),
    'native_layer_norm': NORM,
    'native_layer_norm_backward': NORM,
    'gelu': GELU,
    'gelu_backward': GELU,
}


def flop_formulas(additional: dict) -> dict[object, Callable[..., int]]:
    """What PyTorch's counter computes for each operation, by operator.

    Args:
        additional: formulas on shapes, as ``FlopCounterMode(custom_mapping=...)`` takes them.

    Returns:
        formulas on tensors, to be called as ``formula(*args, **kwargs, out_val=output)``, in FLOPs.
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


@dataclass(frozen=True)
class Scope:
    """A stretch of the forward pass, by the numbers that autograd gives its operations.

    Attributes:
        kind: of all its operations.
        first, last: numbers of its operations in autograd, ``last`` excluded.
    """

    kind: str
    first: int
    last: int


class KindCounter(TorchDispatchMode):
    """Labels every operation of a step with its kind, for the profiler, and counts its work.

    An operation of the backward pass belongs to the module whose forward pass made its node.

    Attributes:
        multiply_adds: by kind.
        bytes: by kind; every operation reads its inputs and writes its outputs once.
        calls: by kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._formulas = flop_formulas(FORMULAS)
        self._stack: list[tuple[str, int]] = []
        self._predicted: set[tuple[int, ...]] = set()
        self._scopes: list[Scope] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_view(func):
            return func(*args, **kwargs)
        kind = self._kind(func, args)
        with record_function(LABEL + kind):
            output = func(*args, **kwargs)
        self.calls[kind] += 1
        self.multiply_adds[kind] += self._work(func, args, kwargs, output)
        written = _outputs(func)
        inputs = {name: value for name, value in kwargs.items() if name not in written}
        self.bytes[kind] += _moved(args, inputs, output)
        return output

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Know of each operation inside the block whether it belongs to a predictor of ``model``.

        Nothing else is hooked: with a hook on it, a layer is not fused with those around it.
        """
        with ExitStack() as stack:
            for name, module in model.named_modules():
                self._predicted |= predicted_shapes(module)
                if name.endswith('.predictor'):
                    before = module.register_forward_pre_hook(self._enter(PREDICTION))
                    after = module.register_forward_hook(self._leave, always_call=True)
                    stack.callback(before.remove)
                    stack.callback(after.remove)
            yield

    def _enter(self, kind: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any) -> None:
            self._stack.append((kind, _sequence_number()))

        return enter

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        kind, first = self._stack.pop()
        self._scopes.append(Scope(kind, first, _sequence_number()))

    def _scope(self) -> str | None:
        """The kind of the innermost layer that the operation running now belongs to."""
        if self._stack:
            return self._stack[-1][0]
        node = torch._C._current_autograd_node()
        if node is None:
            return None
        number = node._sequence_nr()
        # inner modules end before outer ones, so that the first match is the innermost
        return next(
            (scope.kind for scope in self._scopes if scope.first <= number < scope.last), None
        )

    def _kind(self, func: Any, args: tuple) -> str:
        namespace, _, name = func._schema.name.rpartition('::')
        kind = self._scope()
        if kind is not None:
            return kind
        if namespace == NAMESPACE:
            return DEPTHWISE if 'conv' in name else PREDICTION
        if 'convolution' in name:
            return _kind_of_convolution(args)
        if 'attention' in name:
            return ATTENTION
        name = name.removesuffix('_')  # in place
        if name in _BY_NAME:
            return _BY_NAME[name]
        return PREDICTION if self._is_on_predicted_weight(args) else ELEMENTWISE

    def _is_on_predicted_weight(self, args: tuple) -> bool:
        """Whether an argument is a weight for each image, as large as one of a dynamic linear layer."""
        tensors = [leaf for leaf in tree_flatten(args)[0] if isinstance(leaf, Tensor)]
        return any(x.ndim == 3 and tuple(x.shape[1:]) in self._predicted for x in tensors)

    def _work(self, func: Any, args: tuple, kwargs: dict, output: Any) -> int:
        if func._schema.name == 'aten::convolution_backward':
            gradient, weight, mask = args[0], args[2], args[10]
            # PyTorch's own formula is wrong for groups
            return gradient.numel() * weight[0].numel() * (mask[0] + mask[1])
        formula = self._formulas.get(func._overloadpacket)
        return 0 if formula is None else int(formula(*args, **kwargs, out_val=output)) // 2


def predicted_shapes(module: nn.Module) -> set[tuple[int, ...]]:
    """The shape of the weight that a dynamic linear layer predicts; empty for other modules."""
    is_dynamic = getattr(module, 'predictor', None) is not None and module.weight.ndim == 2
    return {tuple(module.weight.shape)} if is_dynamic else set()


def _kind_of_convolution(args: tuple) -> str:
    """Of a convolution or its backward, by its kernel ``(Cout, Cin / groups, k, k)``."""
    weights = [arg for arg in args[1:3] if isinstance(arg, Tensor) and arg.ndim == 4]
    if not weights:
        return CONV
    _, inputs, *size = weights[-1].shape
    if inputs == 1:  # each output channel has one input channel
        return DEPTHWISE
    return MATMUL if max(size) == 1 else CONV


def _moved(args: tuple, kwargs: dict, output: Any) -> int:
    """Inputs and outputs once each; what is changed in place is both."""
    tensors = [leaf for leaf in tree_flatten((args, kwargs, output))[0] if isinstance(leaf, Tensor)]
    # an expanded tensor is read once
    return sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)


def _outputs(func: Any) -> set[str]:
    """The arguments that an operation only writes to, such as ``out``."""
    return {argument.name for argument in func._schema.arguments if argument.is_out}


def _sequence_number() -> int:
    """The number that autograd gives to the next operation of the forward pass."""
    return torch.autograd._get_sequence_nr()
