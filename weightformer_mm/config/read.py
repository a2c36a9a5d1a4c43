"""Read a config file, with errors that name the file and the line.

A Python config is a program. YAML and JSON only name what to build, and it must be registered.

For ``PACKAGE::FILE``, mmengine finds the packages of its table by the names of their distributions, which
are others in the onedl builds, or of their modules. Importing this module adds this package, and the latter.
"""

from __future__ import annotations

import ast
import copy
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import PickleHandler, YamlHandler

from ..errors import UserError
from ..utils.blame import type_name as type_name
from ..utils.translate import explain, require_libraries
from .options import apply_options, use_data_root
from .types import check_types
from .values import check_values

_SUFFIXES = ('.py', '.json', '.yaml', '.yml')
NAME = __name__.partition('.')[0]
RECIPES = Path(__file__).resolve().parents[1] / '.mim' / 'configs'

_path_and_scope = Config._get_cfg_path


def load_config(
    config: str | os.PathLike | Config,
    options: Sequence[str] = (),
    data_root: Any = None,
    replaced: Mapping[str, Any] = MappingProxyType({}),
) -> Config:
    """Read a config, apply ``KEY=VALUE`` options, then point its data to ``data_root``.

    An option is refused if an argument of the command has a value and replaces it: ``replaced`` maps such
    keys to pairs of the argument's name and value.

    Of a `Config`, a copy is changed; one that was read from no file is called ``config.py``.
    A path may be ``PACKAGE::FILE`` (inside an installed package), or the name of a recipe of this package.

    Raises:
        UserError: the file or one of its bases is missing or wrong, an option does not fit, or there is no
            ``data_root`` to replace.
    """
    is_read = isinstance(config, Config)
    cfg = copy.deepcopy(config) if is_read else _read(config)
    object.__setattr__(cfg, '_filename', cfg.filename or 'config.py')
    if options:
        given = {k: f'{name} replaces it' for k, (name, value) in replaced.items() if value}
        apply_options(cfg, options, given)
    if data_root is not None:
        use_data_root(cfg, data_root)
    check_values(cfg)
    return cfg


def _read(path: str | os.PathLike) -> Config:
    if '::' in str(path):
        try:
            path = Config._get_cfg_path(path, '')[0]
        except (AssertionError, ImportError, OSError, ValueError) as error:
            raise UserError(f'config not found: {path}: {error}') from error
    path = Path(path).expanduser()
    if not path.suffix:
        path = find_recipe(str(path)) or path
    if not path.is_file():
        raise UserError(f'config not found: {path}')
    if path.suffix not in _SUFFIXES:
        raise UserError(f'{path} is no config: it should end in {", ".join(_SUFFIXES)}')
    files = _python_files(path) if path.suffix == '.py' else [path]
    read_files_safely()
    try:
        cfg = Config.fromfile(str(path))
    except (Exception, SystemExit) as error:
        problem = _explain(path, files, error)
        if problem is None:
            raise
        raise problem from error
    if path.suffix != '.py':
        check_types(cfg, path)
    return cfg


def find_recipe(name: Any, suffix: str = '.py') -> Path | None:
    """The recipe of that name, or the weights that ship with it (``.safetensors``); None without any."""
    return next((path for path in RECIPES.glob(f'*/*{suffix}') if path.stem == name), None)


def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    """As mmengine's; a recipe of this package has no scope of its own, but that of the library it is for."""
    package, _, file = cfg_path.partition('::')
    if package != NAME or not file:
        return _path_and_scope(cfg_path, filename)
    if not (RECIPES / file).is_file():
        raise FileNotFoundError(f'{NAME} has no recipe {file}; see {RECIPES}')
    return str(RECIPES / file), None


MODULE2PACKAGE[NAME] = NAME
MODULE2PACKAGE.update({module: module for module in filter(find_spec, MODULE2PACKAGE)})
Config._get_cfg_path = staticmethod(_get_cfg_path)


class SafeYamlHandler(YamlHandler):
    """Reads only plain values; mmengine's handler would call what ``!!python/object/apply`` names."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.load(file, Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader))


class WriteOnlyPickleHandler(PickleHandler):
    """Writes pickles, which evaluators need, and reads none."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        raise UserError(
            f'{getattr(file, "name", "a .pkl file")} is a pickle, which could run code; save it as JSON'
        )


def read_files_safely() -> None:
    """Make every ``mmengine.load`` of this process read YAML as plain values, and refuse pickles."""
    register_handler(['yaml', 'yml'])(SafeYamlHandler)
    register_handler(['pickle', 'pkl'])(WriteOnlyPickleHandler)


def require(cfg: Config, keys: Sequence[str], purpose: str) -> None:
    """Raise UserError unless the config has all keys that ``purpose`` needs, and its library is installed."""
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise UserError(f'{cfg.filename} has no {", ".join(missing)}, which {purpose} needs')
    require_libraries(cfg.get('default_scope') or 'mmengine')


def as_list(value: Any) -> list[Any]:
    """A config value that may be one thing or several, as a list; None is nothing."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def metrics_of(evaluator: Any) -> list[Any]:
    """The metrics of an evaluator's config: one, several, or ``dict(metrics=...)`` of one or several."""
    inside = (
        one.get('metrics', one) if isinstance(one, dict) else one for one in as_list(evaluator)
    )
    return [metric for metrics in inside for metric in as_list(metrics)]


def innermost_dataset(dataloader: Any) -> Any:
    """Config of a data loader's data set, inside any wrappers; the first if there are several."""
    return next(innermost_datasets(dataloader['dataset'], 'dataset'))[1]


def innermost_datasets(dataset: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Place and config of every data set inside wrappers (RepeatDataset, ConcatDataset, ...)."""
    if not isinstance(dataset, dict):
        return
    wrapped = [('dataset', dataset['dataset'])] if 'dataset' in dataset else []
    wrapped += [(f'datasets.{i}', item) for i, item in enumerate(dataset.get('datasets') or [])]
    if not wrapped:
        yield place, dataset
    for key, inner in wrapped:
        yield from innermost_datasets(inner, f'{place}.{key}')


def _python_files(path: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """A Python config and its bases, parsed first: mmengine's errors name neither file nor line.

    Args:
        above: the files whose bases lead to this one.
    """
    if path in above:
        way = ', '.join(map(str, above[above.index(path) :]))
        raise UserError(f'{path}: it is a _base_ of itself, by way of {way}')
    try:
        text = path.read_text(encoding='utf-8')
        tree = ast.parse(text)
        compile(text, str(path), 'exec', dont_inherit=True)  # finds more than the parser
    except SyntaxError as error:
        raise UserError(f'{path}, line {error.lineno}: {error.msg}') from error
    except (RecursionError, ValueError) as error:  # such as bytes that are not UTF-8
        raise UserError(f'{path}: {error}') from error
    files = [path]
    for node in tree.body:
        if not isinstance(node, ast.Assign) or '_base_' not in map(ast.unparse, node.targets):
            continue
        for base in getattr(node.value, 'elts', [node.value]):
            name = getattr(base, 'value', None)
            if isinstance(base, ast.Constant) and not isinstance(name, str):
                place = f'{path}, line {base.lineno}'
                raise UserError(f'{place}: expected _base_ to be a path or several, got {name!r}')
            if not isinstance(name, str):  # computed
                continue
            if '::' in name or '{{' in name:  # of an installed package, or filled in by mmengine
                continue
            base_path = Path(os.path.normpath(path.parent / name))
            if not base_path.is_file():
                raise UserError(f'{path}, line {base.lineno}: _base_ file not found: {base_path}')
            if base_path.suffix == '.py':
                files += _python_files(base_path, (*above, path))
    return files


def _explain(path: Path, files: list[Path], error: BaseException) -> UserError | None:
    """The user's error for one raised while mmengine ran the config; None if the config is not to blame."""
    if isinstance(error, ImportError):
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__
        if not isinstance(cause, ModuleNotFoundError):
            return None
        advice = f'custom_imports: {cause}; install that package or put its folder on PYTHONPATH'
        return UserError(f'{path}: {explain(cause) or advice}')
    own = {os.path.abspath(file) for file in files}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if os.path.abspath(frame.filename) in own:
            place = f'{frame.filename}, line {frame.lineno}'
            return UserError(f'{place}: {type(error).__name__}: {error}')
    if isinstance(error, AttributeError):
        return UserError(f'{path}: the top level of a config must be keys with values')
    if isinstance(error, RecursionError):
        return UserError(f'{path}: it nests too deep, or is a _base_ of itself')
    # what mmengine itself rejects: duplicate keys in two bases, a dict over a non-dict, broken JSON
    is_key = isinstance(error, KeyError) and error.args  # its text is in quotes
    return UserError(f'{path}: {error.args[0] if is_key else str(error) or type(error).__name__}')
