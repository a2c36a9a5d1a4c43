"""What ``tools/make_tables.py`` does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from weightformer_mm.errors import UserError
from weightformer_mm.utils.writing import written_whole

from . import metafile, tables
from .metafile import Cost, cost_of
from .recipes import FAMILIES, Family, find_recipes

PAGE = Path('docs/model_zoo.md')
MEASURED_PEERS = Path('docs/peers_measured.yml')
# what is compared: method and schedule, the beginning and end of a recipe's name
COMPARED = {'coco': ('mask-rcnn', '1x_coco'), 'ade20k': ('upernet', '160k_ade20k-512x512')}


def make_tables(root: Path, measure: Sequence[str] | None = None, check: bool = False) -> None:
    """Write the metafiles, their index and the tables of the pages.

    Args:
        root: the repository.
        measure: names of recipes to count again; an empty list counts every model, also those of peers. With
            None, the metafiles' numbers stay, and a recipe without one is an error.
        check: write nothing, and raise if something would change.

    Raises:
        UserError: something is stale, missing or wrong.
    """
    if measure is not None:
        _measure(root, measure)
    stale = {
        page: text
        for page, text in _pages(root).items()
        if not (root / page).is_file() or (root / page).read_text(encoding='utf-8') != text
    }
    if check and stale:
        names = ', '.join(map(str, stale))
        raise UserError(f'stale: {names}; update with: python tools/make_tables.py')
    for page, text in stale.items():
        with written_whole(root / page) as partial:
            partial.write_text(text, encoding='utf-8')
        print(page)


def _measure(root: Path, names: Sequence[str]) -> None:
    recipes = [recipe for family in FAMILIES for recipe in find_recipes(root, family)]
    unknown = sorted(set(names) - {recipe.name for recipe in recipes})
    if unknown:
        raise UserError(f'--measure: no recipe is called {", ".join(unknown)}')
    costs = _known_costs(root) if names else {}
    chosen = [recipe for recipe in recipes if not names or recipe.name in names]
    for recipe in track(chosen, 'count recipes', console=Console(stderr=True), transient=True):
        costs[recipe.name] = cost_of(str(root / recipe.path), recipe.shape)
    for family in FAMILIES:
        own = [recipe for recipe in recipes if recipe.family == family and recipe.name in costs]
        path = root / metafile.metafile_path(family)
        before = metafile.read(path) if path.is_file() else None
        metafile.write(path, metafile.metafile(own, costs, before))
    if not names:
        peers = {family.folder: _measure_peers(family) for family in FAMILIES if _peers(family)}
        metafile.write(root / MEASURED_PEERS, peers)


def _known_costs(root: Path) -> dict[str, Cost]:
    costs: dict[str, Cost] = {}
    for family in FAMILIES:
        costs.update(metafile.costs_in(metafile.read(root / metafile.metafile_path(family))))
    return costs


def _measure_peers(family: Family) -> dict[str, list[int]]:
    """Parameters and multiply-adds of each peer whose config is in an installed package."""
    configs = {peer['backbone']: peer['config'] for peer in _peers(family) if 'config' in peer}
    measured = {}
    text = f'count peers, {family.folder}'
    for backbone, config in track(
        configs.items(), text, console=Console(stderr=True), transient=True
    ):
        package = find_spec(config['package'])
        if package is None or package.origin is None:
            raise UserError(
                f'{config["package"]} is not installed; its Swin is counted beside ours'
            )
        path = Path(package.origin).parent / '.mim/configs' / config['file']
        cost = cost_of(str(path), family.shape, config.get('options', []))
        measured[backbone] = [cost.parameters, cost.multiply_adds]
    return measured


def _peers(family: Family) -> list[dict[str, Any]]:
    return metafile.read(tables.PEERS).get(family.folder, [])


def _pages(root: Path) -> dict[Path, str]:
    """Each generated file as it should be, with the costs that the metafiles have."""
    pages = {page: (root / page).read_text(encoding='utf-8') for page in (PAGE,)}
    pages[Path(metafile.INDEX)] = metafile.render(metafile.index())
    for family in FAMILIES:
        contents = _contents(root, family)
        pages[metafile.metafile_path(family)] = metafile.render(contents)
        for page, name, table in _tables(root, family, contents):
            pages[page] = with_table(pages[page], name, table, page)
    return pages


def with_table(text: str, name: str, table: str, page: Path) -> str:
    """``text`` with what is between ``<!-- table: name -->`` and ``<!-- end -->`` replaced.

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


def _contents(root: Path, family: Family) -> dict[str, Any]:
    """The metafile of a folder as its recipes are now, with the costs that it has."""
    path = metafile.metafile_path(family)
    before, recipes = metafile.read(root / path), list(find_recipes(root, family))
    costs = metafile.costs_in(before)
    different = costs.keys() ^ {recipe.name for recipe in recipes}
    if different:
        raise UserError(
            f'{path} and configs/{family.folder} differ in {", ".join(sorted(different))}; '
            'count again with: python tools/make_tables.py --measure'
        )
    return metafile.metafile(recipes, costs, before)


def _tables(
    root: Path, family: Family, contents: dict[str, Any]
) -> Iterator[tuple[Path, str, str]]:
    """Page, name and text of each table of a folder's recipes."""
    yield PAGE, family.folder, tables.recipe_table(family, contents)
    peers = _peers(family)
    if not peers:
        return
    measured = {
        backbone: Cost(*numbers)
        for backbone, numbers in metafile.read(root / MEASURED_PEERS)[family.folder].items()
    }
    yield PAGE, f'{family.folder}-peers', tables.peer_table(family, peers, measured)
    method, schedule = COMPARED[family.folder]
    table = tables.comparison_table(family, contents, peers, measured, method, schedule)
    yield PAGE, f'{family.folder}-comparison', table
