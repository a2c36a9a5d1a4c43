"""What kind each operation of a training step is, and how much work it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from weightformer_mm.analysis.complexity.counter import flop_formulas
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
# word in the name of an operation of this package → its kind; without such a word, it belongs to a prediction
_OURS = {'conv': DEPTHWISE, 'norm': NORM, 'mlp': MATMUL, 'linear': MATMUL}


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
        self._predicted: set[tuple[int, ...]] = set()
        # autograd's numbers of the operations of predictors; below, the first number of each that runs now
        self._predictors: list[range] = []
        self._entered: list[int] = []

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
        written = {argument.name for argument in func._schema.arguments if argument.is_out}
        inputs = {name: value for name, value in kwargs.items() if name not in written}
        self.bytes[kind] += moved(args, inputs, output)
        return output

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Note for each operation inside the block whether it belongs to a predictor of ``model``.

        Nothing else gets a hook: a layer with a hook is not fused with those around it.
        """
        with ExitStack() as stack:
            for name, module in model.named_modules():
                self._predicted |= predicted_shapes(module)
                # kernels predict without calling the module, unless something hooks it
                if name.endswith('.predictor') and getattr(module, 'backend', '') != 'triton':
                    before = module.register_forward_pre_hook(self._enter)
                    after = module.register_forward_hook(self._leave, always_call=True)
                    stack.callback(before.remove)
                    stack.callback(after.remove)
            yield

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._entered.append(_sequence_number())

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._predictors.append(range(self._entered.pop(), _sequence_number()))

    def _in_predictor(self) -> bool:
        """Whether the operation running now, or the forward pass of its node, belongs to a predictor."""
        node = torch._C._current_autograd_node()
        if self._entered or node is None:
            return bool(self._entered)
        return any(node._sequence_nr() in numbers for numbers in self._predictors)

    def _kind(self, func: Any, args: tuple) -> str:
        namespace, _, name = func._schema.name.rpartition('::')
        if self._in_predictor():
            return PREDICTION
        if namespace == NAMESPACE:
            return next((kind for word, kind in _OURS.items() if word in name), PREDICTION)
        if 'convolution' in name:
            return _kind_of_convolution(args)
        if 'attention' in name:
            return ATTENTION
        name = name.removesuffix('_')  # in place
        if name in _BY_NAME:
            return _BY_NAME[name]
        # a weight for each image, as large as one of a dynamic linear layer
        on_predicted = any(
            isinstance(leaf, Tensor) and leaf.ndim == 3 and tuple(leaf.shape[1:]) in self._predicted
            for leaf in tree_flatten(args)[0]
        )
        return PREDICTION if on_predicted else ELEMENTWISE

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


def moved(args: tuple, kwargs: dict, output: Any) -> int:
    """Inputs and outputs once each; what is changed in place is both."""
    tensors = [leaf for leaf in tree_flatten((args, kwargs, output))[0] if isinstance(leaf, Tensor)]
    # an expanded tensor is read once
    return sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)


def _sequence_number() -> int:
    """The number that autograd gives to the next operation of the forward pass."""
    return torch.autograd._get_sequence_nr()
