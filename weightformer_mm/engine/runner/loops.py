"""Evaluation in which images of different sizes never share a padded batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.registry import LOOPS
from mmengine.runner import TestLoop, ValLoop
from mmengine.runner.amp import autocast
from torch import Tensor

from .fsdp import FSDP


class _ByImageSize:
    """Runs the images of each size in a batch together; heads, too, then see no padding of companions.

    Results come in the order of the batch, as a distributed evaluation expects. A sharded model runs the
    batch as it is, since its processes must call it equally often.
    """

    _part: str
    runner: Any
    evaluator: Any
    fp16: bool

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        call, batch = self.runner.call_hook, dict(batch_idx=idx, data_batch=data_batch)
        call(f'before_{self._part}_iter', **batch)
        step = getattr(self.runner.model, f'{self._part}_step')
        with autocast(enabled=self.fp16):
            if isinstance(self.runner.model, FSDP):
                outputs = step(data_batch)
            else:
                found = {}
                for indices, part in split_by_size(data_batch):
                    found.update(zip(indices, step(part)))
                outputs = [found[index] for index in sorted(found)]
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        call(f'after_{self._part}_iter', **batch, outputs=outputs)


@LOOPS.register_module()
class ValLoopByImageSize(_ByImageSize, ValLoop):
    """mmengine's ``ValLoop`` for batches of images of different sizes."""

    _part = 'val'


@LOOPS.register_module()
class TestLoopByImageSize(_ByImageSize, TestLoop):
    """mmengine's ``TestLoop`` for batches of images of different sizes, with or without augmentation."""

    _part = 'test'


def split_by_size(batch: dict[str, Any]) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """The parts of a batch with images of one size, in the order of their first images.

    Args:
        batch: lists as ``pseudo_collate`` makes them: of images ``(C, H, W)``, samples and the like; or, for
            test-time augmentation, a list of these lists, one for each view. Each view then has one size.

    Yields:
        The indices of the images, and their part of the batch.
    """
    is_plain = isinstance(batch['inputs'][0], Tensor)
    views: Sequence[Sequence[Tensor]] = [batch['inputs']] if is_plain else batch['inputs']
    groups: dict[tuple, list[int]] = {}
    for index, images in enumerate(zip(*views)):
        groups.setdefault(tuple(tuple(image.shape) for image in images), []).append(index)

    def take(values: Sequence[Any], indices: Sequence[int]) -> list[Any]:
        if is_plain:
            return [values[index] for index in indices]
        return [[view[index] for index in indices] for view in values]

    for indices in groups.values():
        yield indices, {name: take(values, indices) for name, values in batch.items()}
