"""Memory that the MLP works in on a CPU, held from call to call.

Fresh memory costs a page fault for every 4 KiB, as much time as GELU takes to fill it.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

_held = threading.local()


def scratch(like: Tensor, dtype: torch.dtype, rows: int, columns: int, count: int) -> list[Tensor]:
    """``count`` matrices ``(rows, columns)`` with any content, valid until the thread's next call.

    On other devices than the CPU, and for tensors that are not quite tensors, they are made anew.
    """
    if like.device.type != 'cpu' or type(like) is not Tensor:
        return [like.new_empty(rows, columns, dtype=dtype) for _ in range(count)]
    blocks = vars(_held).setdefault(dtype, [])
    for index in range(count):
        if index == len(blocks):
            blocks.append(torch.empty(0, dtype=dtype))
        if blocks[index].numel() < rows * columns:
            with torch.inference_mode(
                False
            ):  # what is made in inference mode cannot be written outside
                blocks[index] = torch.empty(rows * columns, dtype=dtype)
    return [block[: rows * columns].view(rows, columns) for block in blocks[:count]]
