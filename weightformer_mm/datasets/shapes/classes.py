"""Names, colours and label values of the Shapes classes."""

from __future__ import annotations

CLASSES = ('disk', 'ring', 'triangle', 'square', 'star', 'cross')
PALETTE = (
    (230, 60, 60),
    (250, 150, 30),
    (60, 180, 75),
    (65, 110, 230),
    (240, 220, 50),
    (170, 70, 220),
)

SEG_CLASSES = ('background', *CLASSES)
SEG_PALETTE = ((90, 90, 90), *PALETTE)

# Label PNGs follow ADE20K: 0 means "other", never used here; reduce_zero_label=True drops it.
BACKGROUND_LABEL = 1


def category_id(kind: str) -> int:
    """COCO category id of a kind, from 1 on."""
    return CLASSES.index(kind) + 1


def label_value(kind: str) -> int:
    """Value of a kind in the label PNGs, from 2 on."""
    return BACKGROUND_LABEL + category_id(kind)
