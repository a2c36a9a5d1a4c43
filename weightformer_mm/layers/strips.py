"""Compute a large map strip by strip: the same result, within rounding, in less memory."""

from __future__ import annotations

from collections.abc import Callable

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
    """``function(x)``, of which about ``max_tokens`` outputs of each image are computed at a time.

    Args:
        function: sees at most ``halo`` rows of its output beyond a strip, and no other image than its own.
        x: a map ``(B, H, W, C)``, or with other axes.
        stride: of the function.
        axis: of the rows in ``x``.
        out_axis: of the rows in the result.
        out: takes the result if it has its type; ``x`` itself only if rows do not read other rows.
        halo: rows of the output; a dilated convolution needs as many as its dilation.
    """
    whole: Tensor | None = None
    height = -(-x.shape[axis] // stride)
    width = -(-x.shape[axis + 1] // stride)
    rows = max(1, max_tokens // width)
    for first in range(0, height, rows):
        count = min(rows, height - first)
        start = max(first - halo, 0)
        stop = min((first + count + halo) * stride, x.shape[axis])
        strip = function(x.narrow(axis, start * stride, stop - start * stride))
        strip = strip.narrow(out_axis, first - start, count)
        if whole is None:
            shape = list(strip.shape)
            shape[out_axis] = height
            is_new = out is None or out.dtype != strip.dtype
            whole = strip.new_empty(shape) if is_new else out
        assert whole is not None
        whole.narrow(out_axis, first, count).copy_(strip)
    assert whole is not None
    return whole
