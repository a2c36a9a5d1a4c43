"""Which blocks of a network are dynamic."""

from __future__ import annotations


def is_dynamic(block: int, every: int = 3) -> bool:
    """Whether block ``block`` of the whole network, from 0, is dynamic: 1, 4, 7, ... (published)."""
    return (block - 1) % every == 0
