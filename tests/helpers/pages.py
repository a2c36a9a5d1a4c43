"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')])


def blocks(page: str | Path, language: str = 'python') -> list[str]:
    """What is between the fences of each block, in order; ``page`` is relative to the repository."""
    text = (ROOT / page).read_text()
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
