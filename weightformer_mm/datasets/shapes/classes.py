"""Names and label values of the Shapes classes."""

from __future__ import annotations

CLASSES = ('disk', 'ring', 'triangle', 'square', 'star', 'cross')

# ContextShapes: an object's class combines its shape and the colour of a cue elsewhere in the picture.
CONTEXT_KINDS = ('disk', 'cross')
CUES = ('red', 'blue')
CONTEXT_CLASSES = tuple(f'{kind}_{cue}' for kind in CONTEXT_KINDS for cue in CUES)

# Label PNGs follow ADE20K: 0 means "other", which is never used here; reduce_zero_label=True drops it. An
# object's label is BACKGROUND_LABEL plus its category id.
BACKGROUND_LABEL = 1


def category_id(kind: str, cue: str | None = None) -> int:
    """COCO category id, from 1, of a kind, or of a kind with a cue."""
    if cue is not None:
        return CONTEXT_CLASSES.index(f'{kind}_{cue}') + 1
    return CLASSES.index(kind) + 1
