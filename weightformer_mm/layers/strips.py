"""Compute a large map strip by strip: the same result, within rounding, in less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

HALO = 1  # rows of the output on each side of a strip: enough for 3x3 convolutions, with a stride or without


def in_strips(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    max_tokens: int,
    stride: int = 1,
    axis: int = 1,
    out_axis: int = 1,
    out: Tensor | None = None,
    halo: int = HALO,
) -> Tensor:
    """``function(x)``, of which about ``max_tokens`` outputs of each image are computed at a time, with halo.

    Args:
        function: sees at most ``halo`` rows of its output beyond a strip, and no other image than its own.
        x: a map ``(B, H, W, C)``, or with other axes.
        stride: of the function.
        axis: of the rows in ``x``.
        out_axis: of the rows in the result.
        out: takes the result if it has its type; ``x`` itself only if stride is 1 and the axes are the same.
        halo: rows of the output; a dilated convolution needs as many as its dilation, a LayerNorm none.
    """
    whole: Tensor | None = None
    height = -(-x.shape[axis] // stride)
    width = -(-x.shape[axis + 1] // stride)
    most = max_tokens // width
    rows = max(1, most // 2, most - 2 * halo)  # a wide halo would repeat most of the work
    above: Tensor | None = None  # the last rows as they were before the result took their place
    for first in range(0, height, rows):
        count = min(rows, height - first)
        start = max(first - halo, 0)
        stop = min((first + count + halo) * stride, x.shape[axis])
        part = x.narrow(axis, start * stride, stop - start * stride)
        if out is x and halo:
            if above is not None:
                part = torch.cat([above, x.narrow(axis, first, stop - first)], axis)
            kept = max(first + count - halo, 0)
            above = part.narrow(axis, kept - start, first + count - kept).clone()
        strip = function(part).narrow(out_axis, first - start, count)
        if whole is None:
            shape = list(strip.shape)
            shape[out_axis] = height
            is_new = out is None or out.dtype != strip.dtype
            whole = strip.new_empty(shape) if is_new else out
        assert whole is not None
        whole.narrow(out_axis, first, count).copy_(strip)
        del part, strip  # the next ones take their memory
    assert whole is not None
    return whole


def even_strips(x: Tensor, max_tokens: int) -> Iterator[Tensor]:
    """The rows of a map ``(B, H, W, C)``, an even number at a time, of about ``max_tokens`` tokens.

    An odd last row joins the strip before it.
    """
    height, width = x.shape[1:3]
    rows = 2 * max(1, max_tokens // (2 * width))
    for first in range(0, max(height - 1, 1), rows):
        is_last = first + rows >= height - 1
        yield x[:, first : height if is_last else first + rows]


def channels_first_in_place(x: Tensor, max_tokens: int) -> Tensor:
    """A contiguous map ``(B, H, W, C)`` as ``(B, C, H, W)``, contiguous, in the memory of ``x``."""
    batch, height, width, channels = x.shape
    rows = next(
        n for n in range(height, 0, -1) if height % n == 0 and n * width <= max_tokens or n == 1
    )
    groups, tokens = height // rows, rows * width
    for image in x.view(batch, groups, tokens, channels):
        for group in image:
            group.view(channels, tokens).copy_(group.T.clone())
        _swap(image.view(groups * channels, tokens), groups, channels)
    return x.view(batch, channels, height, width)


def _swap(blocks: Tensor, groups: int, channels: int) -> None:
    """Bring rows that are in the order (group, channel) into the order (channel, group), one at a time."""
    done = bytearray(len(blocks))
    for start in range(len(blocks)):
        if done[start]:
            continue
        first, place = blocks[start].clone(), start
        while not done[place]:
            done[place] = 1
            channel, group = divmod(place, groups)
            source = group * channels + channel
            blocks[place] = first if source == start else blocks[source]
            place = source
