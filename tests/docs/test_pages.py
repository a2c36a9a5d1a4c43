"""What every page names is there: files of the repository, modules of the package, links to other pages."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')])
# the changelog tells of what was
CURRENT = [page for page in PAGES if page.name != 'CHANGELOG.md']


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize('page', CURRENT, ids=ids)
def test_every_file_it_names_is_there(page):
    text = page.read_text()
    paths = re.findall(
        r'\b(?:tools|tests|projects/[a-z_]+|weightformer_mm)/[\w./-]+\.(?:py|sh)\b', text
    )
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize('page', CURRENT, ids=ids)
def test_every_module_it_names_is_there(page):
    for name in re.findall(r'`(weightformer_mm(?:\.[a-z]\w*)+)', page.read_text()):
        *parts, last = name.split('.')
        assert find_spec('.'.join(parts)), name
        package = __import__('.'.join(parts), fromlist=[last])
        assert hasattr(package, last) or find_spec(name), name


@pytest.mark.parametrize('page', PAGES, ids=ids)
def test_every_page_it_links_to_is_there(page):
    links = re.findall(r'\]\((?!https?:)([^)#\s]+)[^)]*\)', page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
