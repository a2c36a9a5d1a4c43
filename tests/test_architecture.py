"""The subpackages match the picture in CONTRIBUTING, and imports between them go one way."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.helpers.commands import Fork

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'weightformer_mm'
PAGE = ROOT / 'CONTRIBUTING.md'


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = {path: path.relative_to(ROOT).with_suffix('') for path in PACKAGE.rglob('*.py')}
    return {'.'.join(name.parts).removesuffix('.__init__'): path for path, name in paths.items()}


def imported(name: str, path: Path, known: set[str]) -> set[str]:
    """The modules of the package that a module imports, inside functions too."""
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split('.')[: len(package.split('.')) - node.level + 1]
            base = '.'.join([*(above if node.level else []), *filter(None, [node.module])])
            found |= {
                f'{base}.{alias.name}' if f'{base}.{alias.name}' in known else base
                for alias in node.names
            }
    return {module for module in found & known if module != name}


def imports() -> dict[str, set[str]]:
    paths = modules()
    return {name: imported(name, path, set(paths)) for name, path in paths.items()}


def subpackages_in_picture() -> list[str]:
    """The subpackages that the picture in CONTRIBUTING shows, in its order."""
    picture = PAGE.read_text().split('```\nweightformer_mm/\n')[1].split('```')[0]
    lines = [line for line in picture.splitlines() if line.startswith('    ') and line[4] != ' ']
    return [line.split()[0].rstrip('/').removesuffix('.py') for line in lines]


def subpackage(module: str) -> str:
    return module.split('.')[1]


def test_subpackages_are_those_of_the_picture():
    there = {name.split('.')[1] for name in modules() if '.' in name}
    assert sorted(there) == sorted(subpackages_in_picture())


def test_no_subpackage_imports_one_below_it_in_the_picture():
    ranks = {name: rank for rank, name in enumerate(subpackages_in_picture())}
    upward = [
        f'{name} imports {other}'
        for name, others in imports().items()
        for other in others
        if '.' in name and '.' in other and ranks[subpackage(other)] > ranks[subpackage(name)]
    ]
    assert not upward


def test_no_circles():
    graph = imports()
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> None:
        assert name not in path, ' -> '.join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(graph[name]):
                visit(other)
            path.pop()
            done.add(name)

    for name in graph:
        visit(name)


def test_nothing_imports_the_programs_of_the_repository():
    for path in PACKAGE.rglob('*.py'):
        assert 'projects' not in {
            (node.module or '').split('.')[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
        }


def test_import_loads_no_more_than_a_backbone_needs(tmp_path):
    (tmp_path / 'script.py').write_text(
        'import sys, mmengine.model, timm.layers, weightformer_mm\n'
        "print(*{'cv2', 'matplotlib', 'pycocotools', 'mmengine.runner'} & set(sys.modules))"
    )
    script = Fork([str(tmp_path / 'script.py')], tmp_path, {}, openmmlab=False)
    assert script.wait().ok().strip() == ''
