"""Maps that are computed where they are read, a few rows at a time, with the values of the whole map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_TOKENS = 2**16  # of one map that are computed at a time


@dataclass(frozen=True)
class Map:
    """A map ``(B, C, H, W)`` that is never whole in memory.

    Attributes:
        size: ``(H, W)``.
        rows: ``(start, stop) -> (B, C, stop - start, W)``; what it returns must not be changed in place.
    """

    size: tuple[int, int]
    rows: Callable[[int, int], Tensor]

    def strips(self) -> Iterator[tuple[int, int]]:
        """First row and end of each strip."""
        height, width = self.size
        count = max(1, MAX_TOKENS // width)
        return ((start, min(start + count, height)) for start in range(0, height, count))


def stored(x: Tensor) -> Map:
    """A map ``(B, C, H, W)`` that is in memory."""
    height, width = x.shape[2:]
    return Map((height, width), lambda start, stop: x[:, :, start:stop])


def each(function: Callable[..., Tensor], *sources: Map) -> Map:
    """Apply a function that computes each pixel from the same pixel of maps of one size."""
    return Map(
        sources[0].size,
        lambda start, stop: function(*(source.rows(start, stop) for source in sources)),
    )


def joined(*sources: Map) -> Map:
    """Concatenate channels of maps of one size."""
    return each(lambda *parts: torch.cat(parts, dim=1), *sources)


def convolved(source: Map, conv: nn.Conv2d) -> Map:
    """Apply a convolution that keeps the size and pads with zeros."""
    halo = conv.dilation[0] * (conv.kernel_size[0] // 2)

    def rows(start: int, stop: int) -> Tensor:
        first = max(start - halo, 0)
        x = conv(source.rows(first, min(stop + halo, source.size[0])))
        return x[:, :, start - first : stop - first]

    return Map(source.size, rows)


def group_normalised(source: Map, norm: nn.GroupNorm) -> Map:
    """Apply a GroupNorm, whose statistics take a pass over the whole map when rows are first read."""

    @cache
    def factors() -> tuple[Tensor, Tensor]:
        total: Any = 0
        for start, stop in source.strips():
            x = source.rows(start, stop)
            dtype, x = x.dtype, x.unflatten(1, (norm.num_groups, -1)).flatten(2).double()
            count = x.shape[2] / (stop - start) * source.size[0]
            sums = [values.sum(2) / count for values in (x, x.square())]
            total = total + torch.stack(sums)
        mean, square = total.unsqueeze(-1)  # (B, groups, 1)
        deviation = ((square - mean**2).clamp(min=0) + norm.eps).sqrt()
        weight, bias = (
            value.double().view(mean.shape[1], -1) for value in (norm.weight, norm.bias)
        )
        scale = weight / deviation  # (B, groups, channels of one)
        shift = bias - mean * scale
        return tuple(value.flatten(1)[..., None, None].to(dtype) for value in (scale, shift))

    return each(lambda x: torch.addcmul(factors()[1], x, factors()[0]), source)


def resized(source: Map, size: tuple[int, int], mode: str, align_corners: bool | None) -> Map:
    """``F.interpolate(source, size, mode=mode, align_corners=align_corners)``, nearest or bilinear."""
    if size == source.size:
        return source
    options = dict(mode=mode, align_corners=align_corners)
    height = source.size[0]
    index = torch.arange(height)
    # A row of the result is a mean of neighbouring rows. Resizing row numbers tells about where they are, and
    # resizing marks of every third row tells the weights, as interpolate itself rounds them.
    places = F.interpolate(index.double().view(1, 1, -1, 1), (size[0], 1), **options)
    nearest = places.flatten().round().long()
    marks = (index % 3 == torch.arange(3)[:, None]).double()  # (3, H)

    @cache
    def weights(device: torch.device, dtype: torch.dtype) -> Tensor:  # (3, height of the result)
        x = marks.to(device, dtype)[None, :, :, None]
        return F.interpolate(x, (size[0], 1), **options)[0, :, :, 0]

    def rows(start: int, stop: int) -> Tensor:
        middle = nearest[start:stop]
        first, last = max(int(middle.min()) - 1, 0), min(int(middle.max()) + 2, height)
        x = source.rows(first, last)
        whole: Any = 0
        for row in (middle - 1, middle, middle + 1):
            third, inside = (row % 3)[None].to(x.device), row.clamp(0, height - 1) - first
            weight = weights(x.device, x.dtype)[:, start:stop].gather(0, third)
            if weight.any():
                whole = whole + x.index_select(2, inside.to(x.device)) * weight.view(-1, 1)
        return F.interpolate(whole, (stop - start, size[1]), **options)

    return Map(size, rows)


def cropped(source: Map, top: int, bottom: int, left: int, right: int) -> Map:
    """The map without so many rows and columns at its sides."""
    height, width = source.size
    size = height - top - bottom, width - left - right
    return Map(
        size, lambda *ends: source.rows(*(end + top for end in ends))[..., left : width - right]
    )


def kept(source: Map) -> Map:
    """Compute whole strips, and keep those that were read last: neighbours read their rows again."""
    strips = list(source.strips())
    blocks: dict[tuple[int, int], Tensor] = {}

    def rows(start: int, stop: int) -> Tensor:
        needed = [strip for strip in strips if strip[0] < stop and strip[1] > start]
        for strip in set(blocks) - set(needed):
            del blocks[strip]
        for strip in needed:
            if strip not in blocks:
                blocks[strip] = source.rows(*strip)
        first = needed[0][0]
        return torch.cat([blocks[strip] for strip in needed], 2)[:, :, start - first : stop - first]

    return Map(source.size, rows)
