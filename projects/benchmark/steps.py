"""One step of a network, whose time and memory are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

MODES = ('inference', 'train')
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@dataclass(frozen=True)
class Case:
    """What a step works on.

    Attributes:
        mode: one of `MODES`.
        dtype: one of `DTYPES`; half precision runs under autocast, unless the subject is in it itself.
        batch, height, width: of the images, in pixels.
        threads: of PyTorch on the CPU.
        seed: of images, weights and upstream gradients.
    """

    mode: str
    dtype: str
    batch: int
    height: int
    width: int
    threads: int = 1
    seed: int = 0

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


@dataclass
class Step:
    """Something to time.

    Attributes:
        run: does the work.
        reset: runs between two steps; its time does not count.
        release: frees what is kept from step to step; the next ``run`` makes it again.
    """

    run: Callable[[], object]
    reset: Callable[[], object] = lambda: None
    release: Callable[[], object] = lambda: None


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    """Autocast to a half-precision ``dtype``; switched off for float32."""
    enabled = dtype != 'float32'
    return torch.autocast(device.type, DTYPES[dtype] if enabled else None, enabled=enabled)


def make_images(case: Case, device: torch.device) -> Tensor:
    """``(B, 3, H, W)``, normally distributed, all images alike; the same tensor for all subjects."""
    return _images(case.batch, *case.size, case.seed, device)


@lru_cache(maxsize=1)
def _images(batch: int, height: int, width: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    with torch.inference_mode(False):  # for training, too
        image = torch.randn(1, 3, height, width, generator=generator, device=device)
        return image.expand(batch, -1, -1, -1).contiguous()


def forget_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None


def backbone_step(
    model: nn.Module, case: Case, device: torch.device, is_pure: bool = False
) -> Step:
    """Forward, and for training backward from a fixed random gradient of every output.

    Args:
        model: on ``device``; it is set to the mode of ``case``.
        is_pure: the model is in the type of ``case`` itself: so are the images, and there is no autocast.
    """
    model.train(case.mode == 'train')  # returns None for some networks
    images: list[Tensor] = []  # one tensor, once it is made
    upstream: list[Tensor] = []

    def forward() -> list[Tensor]:
        if not images:
            made = make_images(case, device)
            images.append(made.to(DTYPES[case.dtype]) if is_pure else made)
        with nullcontext() if is_pure else autocast(device, case.dtype):
            return list(model(images[0]))

    def infer() -> None:
        with torch.inference_mode():
            forward()

    def train() -> None:
        outputs = forward()
        if not upstream:
            upstream.extend(_random_like(outputs, case.seed))
        torch.autograd.backward(outputs, upstream)

    def release() -> None:
        images.clear()
        upstream.clear()

    if case.mode == 'inference':
        return Step(infer, release=release)
    return Step(train, lambda: forget_gradients(model), release)


def _random_like(outputs: Sequence[Tensor], seed: int) -> list[Tensor]:
    generator = torch.Generator(outputs[0].device).manual_seed(seed)
    return [torch.empty_like(output).normal_(generator=generator).detach() for output in outputs]
