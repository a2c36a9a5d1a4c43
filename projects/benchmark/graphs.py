"""A step as a CUDA graph."""

from __future__ import annotations

import torch

from weightformer_mm.errors import UserError
from weightformer_mm.layers.graphs import record

from .steps import Step


def in_graph(step: Step, device: torch.device) -> Step:
    """The same step from a graph, which its first run records; ``release`` forgets the graph.

    Raises:
        UserError: the device is no GPU.
    """
    if device.type != 'cuda':
        raise UserError(f'CUDA graphs need a GPU; this is {device.type!r}')
    graphs: list[torch.cuda.CUDAGraph] = []  # one, once it is recorded

    def run() -> None:
        if not graphs:
            # gradients belong to the graph's own memory
            graphs.append(record(step.run, device, step.reset)[0])
        graphs[0].replay()

    def release() -> None:
        graphs.clear()
        step.release()

    return Step(run, step.reset, release)
