"""The part that compares whole networks: Triton with PyTorch, outputs and gradients, and a graph with eager.

Both are compared with PyTorch in float64. Triton may be off by at most twice as much as PyTorch in the same
precision, plus a small floor. What is not written is NaN, because PyTorch fills new memory with it here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weightformer_mm import backbones

from ..benchmark.clock import failure_of
from ..benchmark.steps import DTYPES, autocast
from .findings import FAILED, NOT_RUN, OK, SEED
from .options import PartOptions, part_options

FACTOR = 2.0  # how many times as far from float64 as PyTorch
LEAST_NORM = 1e-3  # of a tensor, as a share of the largest
STD = 0.05  # of the weights: large enough for predicted weights to matter


@dataclass(frozen=True)
class Subject:
    """A network and its images.

    Attributes:
        kind: class of the backbone.
        shape: of the images, ``(B, 3, H, W)``.
    """

    kind: str
    arch: Any
    shape: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        arch = self.arch if isinstance(self.arch, str) else 'small sample'
        batch, _, height, width = self.shape
        return f'{self.kind}-{arch} {height}x{width} batch {batch}'

    def build(self, backend: str, **options: Any) -> nn.Module:
        return getattr(backbones, self.kind)(arch=self.arch, backend=backend, **options)

    def state(self) -> dict[str, Tensor]:
        """Random weights."""
        torch.manual_seed(SEED)
        model = self.build('torch')
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=STD)
        return model.state_dict()


FULL = (
    Subject('PyramidWeightFormer', 'tiny', (2, 3, 333, 517)),
    Subject('WeightFormer', 'tiny', (2, 3, 333, 517)),
    Subject('PyramidWeightFormer', 'micro', (1, 3, 33, 2048)),
    Subject('PyramidWeightFormer', 'small', (1, 3, 512, 512)),
)


def small_pyramid() -> Subject:
    """For the interpreter.

    No map is one pixel wide: there, on a CPU, PyTorch 2.11 leaves parts of a gradient unwritten, that of the
    weights of a strided convolution in bfloat16.
    """
    arch = dict(embed_dims=(8,) * 4, depths=(1,) * 4)
    return Subject('PyramidWeightFormer', arch, (2, 3, 9, 33))


TINY = (
    small_pyramid(),
    Subject('WeightFormer', dict(embed_dims=8, depth=2), (2, 3, 33, 48)),
)


def results(
    subject: Subject, state: dict, backend: str, dtype: str, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and gradients of the image and all parameters, on the CPU in float64.

    Args:
        dtype: ``'float64'``, or one of `DTYPES`: half precision runs under autocast.
    """
    exact = dtype == 'float64'
    model = subject.build(backend)
    model.load_state_dict(state)
    model = model.to(device, torch.float64 if exact else torch.float32).train()
    generator = torch.Generator().manual_seed(SEED)
    image = torch.randn(subject.shape, generator=generator)
    image = image.to(device, torch.float64 if exact else torch.float32).requires_grad_()
    with autocast(device, 'float32' if exact else dtype):
        outputs = model(image)
    # exact in every type, so that all see the same
    upstream = [torch.randn(o.shape, generator=generator).bfloat16() for o in outputs]
    torch.autograd.backward(outputs, [u.to(device, o.dtype) for u, o in zip(upstream, outputs)])
    gradients = [image.grad, *(parameter.grad for parameter in model.parameters())]
    return [[tensor.detach().double().cpu() for tensor in part] for part in (outputs, gradients)]


def largest_error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest distance of a tensor from the exact one, relative to that one's norm; NaN is infinite.

    Where terms cancel, nothing but rounding is left. So a norm counts as at least a share of the largest.
    """
    norms = [float(tensor.norm()) for tensor in exact]
    least = max(LEAST_NORM * max(norms), 1e-30)
    pairs = zip(found, exact, norms)
    distances = [float((a - b).norm()) / max(norm, least) for a, b, norm in pairs]
    return max(d if d == d else float('inf') for d in distances)


def allowed(reference: float, dtype: str) -> float:
    """The largest error, given PyTorch's: for one rounding more, and for float32 sums in another order."""
    rounding = torch.finfo(DTYPES[dtype]).eps / 2
    return FACTOR * reference + rounding + 2 * torch.finfo(torch.float32).eps


def compare(subject: Subject, dtypes: Sequence[str], options: PartOptions) -> None:
    """Triton against PyTorch, in every precision."""
    state = subject.state()
    exact = results(subject, state, 'torch', 'float64', options.device)
    for dtype in dtypes:
        what = f'{subject.name} {dtype}'
        try:
            reference = results(subject, state, 'torch', dtype, options.device)
            found = results(subject, state, 'triton', dtype, options.device)
        except Exception as error:
            options.findings.add(what, FAILED, detail=failure_of(error))
            continue
        for kind, *parts in zip(('outputs', 'gradients'), found, reference, exact):
            error, torch_error = (largest_error(part, parts[2]) for part in parts[:2])
            verdict = OK if error <= allowed(torch_error, dtype) else FAILED
            detail = f'largest relative error; PyTorch has {torch_error:.2e}'
            options.findings.add(f'{what} {kind}', verdict, error, detail=detail)


def compare_graph(subject: Subject, options: PartOptions) -> None:
    """A network with ``cuda_graph`` on images that it did not record, against the same network without."""
    what, device = f'{subject.name} graph = eager', options.device
    if device.type != 'cuda':
        options.findings.add(what, NOT_RUN, detail=f'CUDA graphs need a GPU; this is {device.type}')
        return
    model = subject.build('triton').to(device).eval()
    model.load_state_dict(subject.state())
    first, image = torch.randn(2, *subject.shape, device=device)
    with torch.inference_mode(), autocast(device, 'bfloat16'):
        model.cuda_graph = True
        model(first)
        replayed = model(image)
        model.cuda_graph = False
        eager = model(image)
    off = max(float((a - b).abs().max()) for a, b in zip(replayed, eager))
    verdict = OK if all(map(torch.equal, replayed, eager)) else FAILED
    options.findings.add(what, verdict, off, detail='largest difference')


def _cases(rehearse: bool) -> Iterator[tuple[Subject, tuple[str, ...]]]:
    # Triton's interpreter multiplies matrices of bfloat16 as if they were integers
    dtypes = [dtype for dtype in DTYPES if not (rehearse and dtype == 'bfloat16')]
    for subject in TINY if rehearse else FULL:
        yield subject, tuple(dtypes)


def main() -> None:
    options = part_options('networks')
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    # fills new memory with NaN, from torch 2.2 on
    torch.use_deterministic_algorithms(True, warn_only=True)
    warnings.simplefilter('ignore')
    for subject, dtypes in _cases(options.rehearse):
        _guarded(options, f'{subject.name}', compare, subject, dtypes)
    torch.use_deterministic_algorithms(False)
    for subject, _ in _cases(options.rehearse):
        _guarded(options, f'{subject.name} graph = eager', compare_graph, subject)


def _guarded(options: PartOptions, what: str, function: Any, *arguments: Any) -> None:
    try:
        function(*arguments, options)
    except Exception as error:
        options.findings.add(what, FAILED, detail=failure_of(error))


if __name__ == '__main__':
    main()
