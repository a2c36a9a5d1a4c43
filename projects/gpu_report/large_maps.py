"""The part that runs the kernels on maps of more than 2^31 elements, where 32 bits no longer count them.

Several images form such a map; each alone is smaller. What an operation, or a whole network, gives for all
must be what it gives for each, within rounding.
"""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import Tensor

from ..benchmark.clock import failure_of
from ..benchmark.operations import TABLE, Operation, Stage
from ..benchmark.steps import autocast
from .findings import FAILED, OK, SEED
from .networks import Subject, largest_error, small_pyramid
from .options import PartOptions, part_options

LARGE = (2, 4097, 4096, 64)
TINY = (2, 3, 5, 8)
# a batch whose first map is as large
NETWORK = Subject('PyramidWeightFormer', 'tiny', (33, 3, 4096, 4096))
# sums in another order, rounded to bfloat16 in every block; a wrong index gives about 1
NETWORK_TOLERANCE = 0.05
# a float32 sum of millions of terms in another order, and one rounding to bfloat16
TOLERANCE = 2 * torch.finfo(torch.bfloat16).eps


def main() -> None:
    options = part_options('large_maps')
    # fills new memory with NaN, from torch 2.2 on
    torch.use_deterministic_algorithms(True, warn_only=True)
    warnings.simplefilter('ignore')
    stage = Stage('large', TINY if options.rehearse else LARGE)
    for name, operation in TABLE.items():
        if operation.has_backends and not name.startswith('static'):
            try:
                _compare(name, operation, stage, options)
            except Exception as error:
                options.findings.add(name, FAILED, detail=failure_of(error))
            if options.device.type == 'cuda':
                torch.cuda.empty_cache()
    subject = small_pyramid() if options.rehearse else NETWORK
    try:
        _compare_network(subject, options)
    except Exception as error:
        options.findings.add(subject.name, FAILED, detail=failure_of(error))


def _compare_network(subject: Subject, options: PartOptions) -> None:
    """The last image of a batch against the same image alone, without strips."""
    model = subject.build('triton', max_tokens=subject.shape[-1] ** 4).to(options.device).eval()
    model.load_state_dict(subject.state())
    generator = torch.Generator(options.device).manual_seed(SEED)
    images = torch.randn(subject.shape, device=options.device, generator=generator)
    with torch.inference_mode(), autocast(options.device, 'bfloat16'):
        whole = [output[-1:].double().cpu() for output in model(images)]
        alone = [output.double().cpu() for output in model(images[-1:])]
    worst = largest_error(whole, alone)
    verdict = OK if worst <= NETWORK_TOLERANCE else FAILED
    options.findings.add(subject.name, verdict, worst, detail='relative distance to one image')


def _compare(name: str, operation: Operation, stage: Stage, options: PartOptions) -> None:
    generator = torch.Generator(options.device).manual_seed(SEED)
    inputs = [
        torch.empty(shape, device=options.device, dtype=torch.bfloat16).normal_(generator=generator)
        for shape in operation.shapes(stage)
    ]
    function = partial(operation.function, backend='triton')
    whole = _run(function, inputs)
    alone = [
        _run(function, [_image(x, index, stage) for x in inputs]) for index in range(stage.batch)
    ]
    worst = 0.0
    for index, result in enumerate(whole):
        parts = [results[index] for results in alone]
        if len(result) == stage.batch and len(parts[0]) == 1:
            pairs = [(result[i : i + 1], part) for i, part in enumerate(parts)]
        else:  # the gradient of a parameter that both images share
            pairs = [(result.float(), sum(part.float() for part in parts))]
        worst = max(worst, *(_distance(*pair) for pair in pairs))
    elements = inputs[0].numel()
    verdict = OK if worst <= TOLERANCE else FAILED
    options.findings.add(name, verdict, worst, detail=f'{elements:,} elements, relative distance')


def _image(x: Tensor, index: int, stage: Stage) -> Tensor:
    """What belongs to one image; parameters are for all."""
    return x[index : index + 1] if len(x) == stage.batch and x.ndim > 3 else x


def _run(function: partial, inputs: list[Tensor]) -> list[Tensor]:
    """Outputs and gradients; all images get the same random upstream gradient."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    outputs = function(*leaves)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator(leaves[0].device).manual_seed(SEED)
    ones = [torch.empty_like(output[:1]).normal_(generator=generator) for output in outputs]
    upstream = [one.expand_as(output) for one, output in zip(ones, outputs)]
    gradients = torch.autograd.grad(outputs, leaves, upstream)
    return [*(output.detach() for output in outputs), *gradients]


def _distance(found: Tensor, expected: Tensor) -> float:
    """Relative to the largest element; NaN is infinitely far."""
    distance = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
    return distance if distance == distance else float('inf')


if __name__ == '__main__':
    main()
