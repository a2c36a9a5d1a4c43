"""A step as a CUDA graph: recorded once, then replayed with a single launch."""

from __future__ import annotations

import torch

from weightformer_mm.errors import UserError

from .steps import Step

WARM_UP = 3  # steps that compile kernels and allocate workspaces, which a recording must not do


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
            graphs.append(_record(step, device))
        graphs[0].replay()

    def release() -> None:
        graphs.clear()
        step.release()

    return Step(run, step.reset, release)


def _record(step: Step, device: torch.device) -> torch.cuda.CUDAGraph:
    here, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step.reset()
            step.run()
    here.wait_stream(side)
    step.reset()  # gradients belong to the graph's own memory
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.run()
    return graph
