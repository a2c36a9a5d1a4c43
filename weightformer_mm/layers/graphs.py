"""CUDA graphs: what launches hundreds of kernels is recorded once, then replayed with a single launch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..ops._shared.compat import is_compiling
from ..ops._shared.dispatch import is_traced, is_transformed, product_dtype

MOST_GRAPHS = 8  # of a network: each keeps the memory of its activations
WARM_UP = 3  # runs that compile kernels and allocate workspaces, which a recording must not do


def record(
    run: Callable[[], Any], device: torch.device, reset: Callable[[], object] = lambda: None
) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Record what ``run`` launches; return the graph, and what ``run`` returned, which each replay fills.

    Args:
        run: it reads and writes the same memory whenever it runs, and never waits for the GPU.
        device: a GPU.
        reset: runs before each run.
    """
    here, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    graph = torch.cuda.CUDAGraph()
    with _without_autocast_cache():
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                reset()
                run()
        here.wait_stream(side)
        reset()
        with torch.cuda.graph(graph):
            result = run()
    return graph, result


@contextmanager
def _without_autocast_cache() -> Iterator[None]:
    """Parameters that autocast converted are forgotten when its block ends, and a graph would read them."""
    is_enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(is_enabled)


def can_record(network: nn.Module, image: Tensor) -> bool:
    """Whether this is inference on a GPU, by nobody who must see its operations."""
    if not image.is_cuda or network.training or torch.is_grad_enabled():
        return False
    is_watched = is_compiling() or is_traced() or is_transformed()
    return (
        not is_watched and not torch.cuda.is_current_stream_capturing() and not _has_hooks(network)
    )


def _has_hooks(network: nn.Module) -> bool:
    modules: Iterator[Any] = network.modules()
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


class Graphs:
    """The graphs of a network by the shape of the images, the one that was used last at the end.

    Copies of it are empty: a graph belongs to the memory of one network in one process.
    """

    def __init__(self) -> None:
        self._graphs: OrderedDict[tuple, tuple[Any, Tensor, tuple[Tensor, ...]]] = OrderedDict()
        # where the network's tensors were when the graphs were recorded
        self._memory: list[int] = []

    def __reduce__(self) -> tuple[type, tuple]:
        return Graphs, ()

    def run(self, forward: Callable, network: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        """``forward(network, image)``, in memory of its own."""
        memory = [each.data_ptr() for each in (*network.parameters(), *network.buffers())]
        if memory != self._memory:
            self._graphs.clear()
            self._memory = memory
        kind = image.dtype, image.device, product_dtype(image), torch.is_inference_mode_enabled()
        key = image.shape, image.stride(), *kind
        if key not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                self._graphs.popitem(last=False)
            static = image.clone()
            recorded = record(lambda: forward(network, static), image.device)
            self._graphs[key] = (recorded[0], static, recorded[1])
        self._graphs.move_to_end(key)
        graph, static, outputs = self._graphs[key]
        static.copy_(image)
        graph.replay()
        return tuple(output.clone() for output in outputs)
