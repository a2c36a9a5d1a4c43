"""What every page names is there: files of the repository, modules of the package, links to other pages."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.pages import PAGES, ROOT

# the changelog tells of what was
CURRENT = [page for page in PAGES if page.name != 'CHANGELOG.md']


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def files_named(page: Path) -> set[str]:
    text = page.read_text()
    # my_...: a user's own
    folders = 'configs(?!/my_)|tools|tests|projects/[a-z_]+|weightformer_mm'
    scripts = re.findall(rf'(?<![\w/])(?:{folders})/[\w./-]+\.(?:py|sh|yml)\b', text)
    return {*scripts, *re.findall(rf'`((?:{folders})/[\w./-]+)`', text)}


@pytest.mark.parametrize('page', CURRENT, ids=ids)
def test_every_file_it_names_is_there(page):
    assert [path for path in files_named(page) if not (ROOT / path).exists()] == []


def test_files_are_found_on_pages():
    assert len(files_named(ROOT / 'docs/training.md')) >= 6
    assert len(set().union(*map(files_named, CURRENT))) > 50


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
