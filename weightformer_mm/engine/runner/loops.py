"""Evaluation in which images of different sizes never share a padded batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import TestLoop, ValLoop
from torch import Tensor


class _ByImageSize:
    """Runs the images of each size in a batch together; heads, too, then see no padding of companions."""

    def run_iter(self, idx: int, data_batch: dict) -> None:
        for part in split_by_size(data_batch):
            super().run_iter(idx, part)  # type: ignore[misc]


@LOOPS.register_module()
class ValLoopByImageSize(_ByImageSize, ValLoop):
    """mmengine's ``ValLoop`` for batches of images of different sizes."""


@LOOPS.register_module()
class TestLoopByImageSize(_ByImageSize, TestLoop):
    """mmengine's ``TestLoop`` for batches of images of different sizes, with or without augmentation."""


def split_by_size(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a batch with images of one size, in the order of their first images.

    Args:
        batch: lists as ``pseudo_collate`` makes them: of images ``(C, H, W)``, samples and the like; or, for
            test-time augmentation, a list of these lists, one for each view.
    """
    views = batch['inputs']
    is_plain = isinstance(views[0], Tensor)
    first: Sequence[Tensor] = views if is_plain else views[0]
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(first):
        groups.setdefault(tuple(image.shape), []).append(index)

    def take(values: Sequence[Any], indices: Sequence[int]) -> list[Any]:
        if is_plain:
            return [values[index] for index in indices]
        return [[view[index] for index in indices] for view in values]

    for indices in groups.values():
        yield {name: take(values, indices) for name, values in batch.items()}
