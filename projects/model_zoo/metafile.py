"""Metafiles in OpenMMLab's form: one per folder of recipes, and the index that names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from weightformer_mm.apis.complexity import complexity_of_config
from weightformer_mm.errors import UserError
from weightformer_mm.utils.writing import written_whole

from .recipes import COLLECTIONS, FAMILIES, PAPER, Family, Recipe

INDEX = 'model-index.yml'
NOT_TRAINED = 'not trained yet'
_COMMAND = 'python tools/make_tables.py --measure'
_Loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


@dataclass(frozen=True)
class Cost:
    """Parameters of a model, and multiply-adds of one image in inference."""

    parameters: int
    multiply_adds: int


def cost_of(config: str, shape: tuple[int, int], options: Sequence[str] = ()) -> Cost:
    """Count the model of a config at a height and width, as ``tools/complexity.py`` does."""
    _, (complexity,) = complexity_of_config(config, [shape], options=options)
    return Cost(complexity.total.parameters, complexity.total.multiply_adds)


def metafile_path(family: Family) -> Path:
    """Relative to the repository."""
    return Path('configs', family.folder, 'metafile.yml')


def metafile(
    recipes: Iterable[Recipe], costs: dict[str, Cost], before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The contents of a folder's metafile.

    Args:
        costs: by recipe name.
        before: what the file held; results and weights, which people write into it by hand, stay.
    """
    recipes = list(recipes)
    trained = {model['Name']: model for model in (before or {}).get('Models', ())}
    used = {recipe.backbone for recipe in recipes}
    return {
        'Collections': [
            _collection(name, about) for name, about in COLLECTIONS.items() if name in used
        ],
        'Models': [
            _model(recipe, costs[recipe.name], trained.get(recipe.name, {})) for recipe in recipes
        ],
    }


def index() -> dict[str, Any]:
    """The contents of ``model-index.yml``."""
    return {'Import': [metafile_path(family).as_posix() for family in FAMILIES]}


def render(contents: dict[str, Any]) -> str:
    """YAML, with a line that says where it comes from."""
    return f'# Written by: {_COMMAND}\n' + yaml.safe_dump(
        contents, sort_keys=False, allow_unicode=True, width=110
    )


def write(path: Path, contents: dict[str, Any]) -> None:
    """Write a YAML file whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(render(contents), encoding='utf-8')


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file.

    Raises:
        UserError: it is not there, or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding='utf-8'), _Loader)
    except FileNotFoundError as error:
        raise UserError(f'{path} not found; make it with: {_COMMAND}') from error
    except yaml.YAMLError as error:
        raise UserError(f'{path} is not valid YAML: {error}') from error


def costs_in(contents: dict[str, Any]) -> dict[str, Cost]:
    """Model name → what a metafile says that it costs."""
    return {
        model['Name']: Cost(model['Metadata']['Parameters'], model['Metadata']['FLOPs'])
        for model in contents['Models']
    }


def _collection(name: str, about: str) -> dict[str, Any]:
    return {
        'Name': name,
        'Paper': dict(PAPER),  # the same object twice would become an alias in YAML
        'README': 'README.md',
        'Metadata': {'Architecture': [name], 'Origin': about},
    }


def _model(recipe: Recipe, cost: Cost, trained: dict[str, Any]) -> dict[str, Any]:
    height, width = recipe.shape
    return {
        'Name': recipe.name,
        'In Collection': recipe.backbone,
        'Config': recipe.path.as_posix(),
        'Metadata': {
            'Training Data': recipe.family.dataset,
            **recipe.length,
            'Batch Size': recipe.batch_size,
            'Parameters': cost.parameters,
            'FLOPs': cost.multiply_adds,  # multiply-adds, as mmdet and mmseg count them
            'FLOPs Shape': f'{height}x{width}',  # mim reads no lists of numbers
        },
        'Results': trained.get('Results', []),
        'Weights': recipe.weights or trained.get('Weights', NOT_TRAINED),
    }
