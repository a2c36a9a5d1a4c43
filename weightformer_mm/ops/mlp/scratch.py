"""Memory that the MLP works in on a CPU, held from call to call.

Fresh memory costs a page fault for every 4 KiB, as much time as GELU takes to fill it.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

_held = threading.local()


def scratch(like: Tensor, rows: int, columns: int, count: int) -> list[Tensor]:
    """``count`` matrices ``(rows, columns)`` with any content, valid until the thread's next call.

    They are of the type and on the device of ``like``; on other devices than the CPU, and for subclasses of
    tensors, made anew.
    """
    if like.device.type != 'cpu' or type(like) not in (Tensor, torch.nn.Parameter):
        return [like.new_empty(rows, columns) for _ in range(count)]
    dtype = like.dtype
    blocks = vars(_held).setdefault(dtype, [])
    for index in range(count):
        if index == len(blocks):
            blocks.append(torch.empty(0, dtype=dtype, device='cpu'))
        if blocks[index].numel() < rows * columns:
            # what is made in inference mode cannot be written to outside it
            with torch.inference_mode(False):
                blocks[index] = torch.empty(rows * columns, dtype=dtype, device='cpu')
    return [block[: rows * columns].view(rows, columns) for block in blocks[:count]]
