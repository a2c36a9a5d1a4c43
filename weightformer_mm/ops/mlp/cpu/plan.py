"""How the MLP runs on a CPU: one table, with the measurements behind each row.

All times are in milliseconds, for forward and backward in float32 on two cores, unless a row says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One form of the MLP, and the sizes from which it is the fastest way to train."""

    width: int  # channels of the hidden layer, at least
    elements: int = (
        0  # of the hidden layer of all images, at least, where each image has its own weight
    )
    piece: int = 0  # elements of the hidden layer that run together; 0 for all


# Training uses the first row whose limits are met. Without a backward pass 'recomputed' runs, and in a
# checkpointed block one of the last two. 'whole' also needs float32 or float64 throughout.
TABLE = {
    # All tokens at once, the hidden layer kept. Steps at 1024x1024: WeightFormer tiny (width 768) 610, plain
    # 630, in pieces 650; PyramidWeightFormer tiny 2317 with its second stage (width 512) in this form, 2334
    # with that in pieces. The MLP of a static block there: 64 in this form, 70 in pieces, 89 plain.
    # Elements (6 MiB): steps of two images, plain / image by image: 1442 / 1325 (WeightFormer tiny,
    # 1024x1024), 387 / 370 (512x512), 5323 / 4609 (PyramidWeightFormer tiny, 800x1280); of eight images of
    # 224x224: 362 / 362.
    # Pieces of 16 MiB: not compared with others.
    'whole': Row(width=512, elements=3 * 2**19, piece=2**22),
    # PyTorch's own operations, for what 'whole' does not take, such as half precision, which was not
    # measured. In float32 about as fast as 'kept', see below.
    'plain': Row(width=768),
    # In pieces, the hidden layer before GELU kept. Recomputed / kept / plain: 101 / 117 / 165 (65536 tokens,
    # width 256), 75 / 71 / 86 (16384, 512), 38 / 34 / 35 (4096, 768), 95 / 85 / 88 (4096, 1280).
    # Pieces of 4 MiB: half or twice as much is equally fast, within 3 %.
    'kept': Row(width=512, piece=2**20),
    'recomputed': Row(width=0, piece=2**20),
}
