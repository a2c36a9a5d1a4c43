"""The documentation site: what is in it, and that it builds; `make docs` makes the environment for that."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT / 'docs')) for page in ROOT.glob('docs/**/*.md')}
ADDED = {'index.md', 'contribute.md', 'changes.md'}  # by tools/docs_site.py
PYTHON = Path(sys.executable) if find_spec('mkdocs') else ROOT / '.venv-docs/bin/python'
MODULES = sorted(ROOT.glob('weightformer_mm/**/*.py'))


def test_the_navigation_has_every_page_once():
    (navigation,) = re.findall(r'^nav:\n(.*?)^\S', (ROOT / 'mkdocs.yml').read_text(), re.M | re.S)
    assert sorted(re.findall(r': (\S+\.md)$', navigation, re.M)) == sorted(PAGES | ADDED)


def test_the_lock_pins_every_line_once():
    lines = (ROOT / 'requirements/docs.txt').read_text().splitlines()
    names = [line.partition('==')[0] for line in lines if not line.startswith((' ', '#'))]
    assert names == sorted(set(names))
    assert {'mkdocs', 'mkdocs-material', 'mkdocstrings-python'} <= set(names)


def parameters(node: ast.AST) -> set[str] | None:
    """Parameters of a function or a class; None: a class that inherits its constructor."""
    if isinstance(node, ast.ClassDef):
        inits = [part for part in node.body if getattr(part, 'name', '') == '__init__']
        return parameters(inits[0]) if inits else None
    return {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}


def entries(docstring: str) -> list[str]:
    """The names that ``Args:`` describes; one entry may describe several."""
    section = re.search(r'^Args:\n((?:(?: .*)?\n)+)', f'{docstring}\n', re.M)
    found = re.findall(r'^    ([\w*]+(?:, [\w*]+)*):', section[1], re.M) if section else []
    return [name.strip('*') for names in found for name in names.split(', ')]


def described() -> list[tuple[str, set[str] | None, list[str]]]:
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                names = entries(ast.get_docstring(node) or '')
                found.append((f'{path.name}: {node.name}', parameters(node), names))
    return found


def test_docstrings_describe_parameters_that_exist():
    checked = [entry for entry in described() if entry[1] is not None]
    assert sum(len(names) for _, _, names in checked) > 150
    unknown = [(place, set(names) - known) for place, known, names in checked]
    assert [(place, names) for place, names in unknown if names] == []


@pytest.mark.skipif(not PYTHON.exists(), reason='needs mkdocs: `make docs` installs it')
def test_it_builds_without_a_warning(tmp_path):
    build = [PYTHON, '-m', 'mkdocs', 'build', '--strict', '--site-dir', tmp_path]
    env = {**os.environ, 'REPOSITORY_URL': ''}
    result = subprocess.run(build, cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    subpackages = {path.parent.name for path in ROOT.glob('weightformer_mm/*/__init__.py')}
    assert {path.stem for path in tmp_path.glob('api/*.html')} == subpackages
    assert list(tmp_path.glob('configs/**/*.py')), 'pages link to configs'
    for page in tmp_path.glob('**/*.html'):
        assert not re.search(r'<(script|link|img)[^>]*(src|href)="?(https?:)?//', page.read_text())
