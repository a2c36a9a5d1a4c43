"""The operations of the networks, at the shapes of each stage: time against the ceilings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from weightformer_mm import ops
from weightformer_mm.analysis.complexity import count_operations
from weightformer_mm.arch import ISOTROPIC, PYRAMID
from weightformer_mm.errors import Interrupted, RunFailed, UserError
from weightformer_mm.ops._shared.dispatch import check_backend

from .clock import failure_of, is_usable
from .measure import Method, time_cells, work_cells
from .results import LOST, Results
from .steps import DTYPES, Case, Step

DIRECTIONS = ('forward', 'backward')
MLP_RATIO = 4
PATCH_SIZE = 16
EPS = 1e-6


@dataclass(frozen=True)
class Stage:
    """A stage of a network, by its maps.

    Attributes:
        name: for the rows.
        shape: of a map, ``(B, H, W, C)``.
    """

    name: str
    shape: tuple[int, int, int, int]

    @property
    def batch(self) -> int:
        return self.shape[0]

    @property
    def channels(self) -> int:
        return self.shape[3]

    @property
    def hidden(self) -> int:
        """Channels inside the MLP."""
        return MLP_RATIO * self.channels


@dataclass(frozen=True)
class Operation:
    """An operation, and what it cannot avoid reading.

    Attributes:
        shapes: of its inputs, parameters included; the first is the map.
        function: of the inputs; it has a parameter ``backend`` if that can be chosen.
        kept: share of the map that the backward pass must read.
    """

    shapes: Callable[[Stage], list[tuple[int, ...]]]
    function: Callable[..., Any]
    kept: float = 1.0

    @property
    def has_backends(self) -> bool:
        return 'backend' in inspect.signature(self.function).parameters

    def multiply_adds(self, stage: Stage) -> int:
        """Of the forward pass, as the reference form runs it."""
        with FakeTensorMode(), count_operations(nn.Identity()) as counts:
            self.function(*(torch.empty(shape) for shape in self.shapes(stage)))
        return counts.total


def _conv_norm(*inputs: Tensor, backend: str = 'auto') -> tuple[Tensor, Tensor]:
    return ops.depthwise_conv_norm(*inputs, EPS, backend=backend)


def _adaptive_update(x: Tensor, *parameters: Tensor, backend: str = 'auto') -> Tensor:
    return ops.adaptive_update(x, 3, *parameters, backend=backend)


def _adaptive_shapes(stage: Stage) -> list[tuple[int, ...]]:
    square = (stage.channels, stage.channels, 1, 1)
    return [stage.shape, square, (stage.channels,), square]


def _bilateral_shapes(stage: Stage) -> list[tuple[int, ...]]:
    wide, hidden = stage.channels, stage.hidden
    left, right = wide // 4, hidden // 4
    return [stage.shape, (left + right, wide), (left + right,), (left, wide), (right, hidden)]


def _mlp_shapes(stage: Stage) -> list[tuple[int, ...]]:
    wide, hidden = stage.channels, stage.hidden
    return [stage.shape, (wide,), (wide,), (1, wide, hidden), (hidden,), (wide, hidden), (wide,)]


def _wide(stage: Stage) -> tuple[int, ...]:
    return (*stage.shape[:3], stage.hidden)


TABLE: Mapping[str, Operation] = {
    'depthwise_conv': Operation(
        lambda s: [s.shape, (s.batch, s.channels, 1, 3, 3), (s.channels,)], ops.depthwise_conv
    ),
    'static_depthwise_conv': Operation(
        lambda s: [s.shape, (1, s.channels, 1, 3, 3), (s.channels,)], ops.depthwise_conv
    ),
    # with the residual and the LayerNorm that follows: two maps come out
    'depthwise_conv_norm': Operation(
        lambda s: [s.shape, (s.batch, s.channels, 1, 3, 3), *[(s.channels,)] * 3], _conv_norm
    ),
    # the backward pass needs the means over the grid, not the map
    'adaptive_update': Operation(_adaptive_shapes, _adaptive_update, kept=0.0),
    # the backward pass needs the pooled map, a quarter of the map
    'bilateral_update': Operation(_bilateral_shapes, ops.bilateral_update, kept=0.25),
    'predicted_linear': Operation(
        lambda s: [s.shape, (s.batch, s.channels, s.hidden), (s.hidden,)], ops.predicted_linear
    ),
    # the residual, LayerNorm, both linear layers and GELU between them
    'residual_mlp': Operation(_mlp_shapes, ops.residual_mlp),
    'layer_norm': Operation(
        lambda s: [s.shape, (s.channels,), (s.channels,)],
        lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias, EPS),
    ),
    'gelu': Operation(lambda s: [_wide(s)], lambda x: F.gelu(x)),
    'fc1': Operation(
        lambda s: [s.shape, (s.hidden, s.channels), (s.hidden,)],
        lambda x, weight, bias: F.linear(x, weight, bias),
    ),
    'fc2': Operation(
        lambda s: [_wide(s), (s.channels, s.hidden), (s.channels,)],
        lambda x, weight, bias: F.linear(x, weight, bias),
    ),
}


def stages_of(arch: str, height: int, width: int, batch: int) -> list[Stage]:
    """The stages of a network of this package on images of a size.

    Args:
        arch: such as ``'pyramid-tiny'`` or ``'weightformer-small'``.

    Raises:
        UserError: an unknown arch.
    """
    family, _, size = arch.partition('-')
    if family == 'pyramid' and size in PYRAMID:
        widths = PYRAMID[size]['embed_dims']
        strides = [4 * 2**index for index in range(len(widths))]
    elif family == 'weightformer' and size in ISOTROPIC:
        widths, strides = [ISOTROPIC[size]['embed_dims']], [PATCH_SIZE]
    else:
        known = [*(f'pyramid-{name}' for name in PYRAMID)]
        known += [f'weightformer-{name}' for name in ISOTROPIC]
        raise UserError(f'--arch: unknown {arch!r}; choose from {", ".join(known)}')
    return [
        Stage(f'{arch}-stage{index}', (batch, -(-height // stride), -(-width // stride), channels))
        for index, (stride, channels) in enumerate(zip(strides, widths), start=1)
    ]


def check_choices(names: Sequence[str], backends: Sequence[str]) -> None:
    """Raise a UserError that lists the valid names for an unknown operation or backend."""
    for name in names:
        if name not in TABLE:
            raise UserError(f'--ops: unknown {name!r}; choose from {", ".join(TABLE)}')
    for backend in backends:
        try:
            check_backend(backend)
        except ValueError as error:
            raise UserError(f'--backends: {error}') from error


def measure_operations(
    names: Sequence[str],
    stages: Sequence[Stage],
    backends: Sequence[str],
    dtype: str,
    seed: int,
    method: Method,
    results: Results,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Time each operation forward and backward at each stage, its backends interleaved.

    An operation without a choice of backends runs once, under the name ``torch``. A backend that fails gets a
    row that says why.

    Raises:
        Interrupted: by Ctrl-C; what is finished is kept.
    """
    for stage in stages:
        method = method.with_new_ceilings()
        for name in names:
            for direction in DIRECTIONS:
                progress(f'{name}/{stage.name} {direction}')
                case = Case(direction, dtype, *stage.shape[:3], seed=seed)
                _measure(name, stage, case, backends, method, results)


def _measure(
    name: str,
    stage: Stage,
    case: Case,
    backends: Sequence[str],
    method: Method,
    results: Results,
) -> None:
    operation = TABLE[name]
    chosen = backends if operation.has_backends else ('torch',)
    labels = {backend: f'{name}/{stage.name}/{backend}' for backend in chosen}
    inputs, steps, moved, failures = None, {}, 0, {}
    for backend, label in labels.items():
        try:
            if not is_usable(method.device):
                raise RunFailed(LOST)
            inputs = inputs or _make_inputs(operation.shapes(stage), case, method.device)
            steps[label], moved = _step(operation, inputs, case.mode, backend)
        except Exception as error:
            failures[label] = failure_of(error)
    samples = method.time(steps)
    failures.update(samples.failures)
    work = operation.multiply_adds(stage) * (2 if case.mode == 'backward' else 1)
    rows = [method.row(label, case, note=reason) for label, reason in failures.items()]
    first = next(iter(labels.values()))
    for label in filter(samples.times.get, samples.times):
        cells = time_cells(samples, label, first, dict.fromkeys(steps, stage.batch))
        cells.update(work_cells(work, moved, cells['median_ms'], method.ceilings))
        rows.append(method.row(label, case, **cells))
    results.add(rows)
    if samples.interrupted:
        raise Interrupted('interrupted; what is finished is kept')


def _make_inputs(shapes: Sequence[tuple], case: Case, device: torch.device) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(case.seed)
    return [
        torch.empty(shape, device=device, dtype=DTYPES[case.dtype])
        .normal_(generator=generator)
        .requires_grad_(case.mode == 'backward')
        for shape in shapes
    ]


def _step(
    operation: Operation, inputs: list[Tensor], direction: str, backend: str
) -> tuple[Step, int]:
    """What is timed, and the fewest bytes that it must move."""
    function = operation.function
    if operation.has_backends:
        function = partial(function, backend=backend)
    if direction == 'forward':
        with torch.no_grad():
            outputs = _as_tuple(function(*inputs))

        def forward() -> None:
            with torch.inference_mode():
                function(*inputs)

        return Step(forward), _bytes([*inputs, *outputs])
    outputs = _as_tuple(function(*inputs))
    upstream = [torch.randn_like(output) for output in outputs]
    features, *parameters = inputs
    # reads what was kept, the parameters and the upstream gradient; writes a gradient for each input
    moved = int(operation.kept * _bytes([features])) + _bytes([*parameters, *upstream, *inputs])
    return Step(lambda: torch.autograd.grad(outputs, inputs, upstream, retain_graph=True)), moved


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
