"""Generated tables inside hand-written pages, between two marks."""

from __future__ import annotations

import re
from pathlib import Path

from weightformer_mm.errors import UserError
from weightformer_mm.utils.writing import written_whole


def with_table(text: str, name: str, table: str, page: Path) -> str:
    """``text`` with what stands between ``<!-- table: name -->`` and ``<!-- end -->`` exchanged.

    Raises:
        UserError: the page has no such marks.
    """
    marks = re.compile(rf'(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->\n)', re.DOTALL)
    text, found = marks.subn(lambda match: f'{match[1]}\n{table}\n{match[2]}', text)
    if found != 1:
        raise UserError(
            f'{page}: expected one "<!-- table: {name} -->" with "<!-- end -->", found {found}'
        )
    return text


def differs(page: Path, text: str) -> bool:
    """Whether a page is not there or reads otherwise."""
    return not page.is_file() or page.read_text(encoding='utf-8') != text


def write_page(page: Path, text: str) -> None:
    """Write a page whole or not at all."""
    with written_whole(page) as partial:
        partial.write_text(text, encoding='utf-8')
