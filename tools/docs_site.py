"""What mkdocs adds to the pages of docs/: pages of the root folder, and the API from docstrings."""

import ast
import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob('weightformer_mm/*/__init__.py'))
PAGES = {'README.md': 'index.md', 'CONTRIBUTING.md': 'contribute.md', 'CHANGELOG.md': 'changes.md'}
LINK = re.compile(r'(?<=]\()(?![a-z]+:|#)[^)#\s]+')


def on_config(config: MkDocsConfig) -> None:
    """Put the API before the last entry of the navigation, and the repository after it."""
    config.nav.insert(-1, {'API': [{path.name: f'api/{path.name}.md'} for path in PACKAGES]})
    url = config.extra['repository']
    config.nav += [{'Source': url}] if url else []


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that do not lie in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for path in PACKAGES:
        files.append(File.generated(config, f'api/{path.name}.md', content=api_page(path)))


def api_page(package: Path) -> str:
    """What a subpackage exports, then what else its modules document; a function may hide its folder."""
    exported = names(package / '__init__.py')
    text = entry(package, exported, level=1)
    for path in sorted(package.rglob('*.py'))[1:]:
        module = path.parent if path.stem == '__init__' else path.with_suffix('')
        left = [name for name in names(path) if name not in exported or (package / name).exists()]
        if left and '/_' not in str(module.relative_to(ROOT)):
            text += entry(module, left, level=2)
    return text


def names(path: Path) -> list[str]:
    """The exports of a module or, if it lists none, its public classes and functions with a docstring."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if ast.unparse(node).startswith('__all__ = ['):
            return ast.literal_eval(node.value)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            found += [] if node.name.startswith('_') else [node.name]
    return found


def entry(path: Path, members: list[str], level: int) -> str:
    """What mkdocstrings reads."""
    name, label = ('.'.join(path.relative_to(ROOT).parts[i:]) for i in (0, 2))
    options = f'{{heading_level: {level}, members: {members}, toc_label: {label}}}'
    return f'::: {name}\n    options: {options}\n\n'


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page, which are right in the repository, right on the site."""
    here, url = page.file.src_uri, config.extra['repository']
    source = {v: k for k, v in PAGES.items()}.get(here, f'docs/{here}')

    def on_the_site(link: re.Match[str]) -> str:
        path = normpath(join(dirname(source), link[0]))
        target = PAGES.get(path, path.removeprefix('docs/'))
        if target == path and not (ROOT / path).is_file():
            raise PluginError(f'{source} links to {path}, which is no file of the repository')
        if target == path and url:
            return f'{url}/blob/HEAD/{path}'
        if target == path and path not in files.src_uris:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
        return relpath(target, dirname(here) or '.')

    return LINK.sub(on_the_site, markdown)
