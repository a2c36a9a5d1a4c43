"""What the command line changes in a config: ``--cfg-options KEY=VALUE``, and the place of its data."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from ..errors import UserError
from ..utils.blame import nodes
from .types import class_of

# what mmengine's runner, mmdet, mmseg and the tools read from the config besides the runner's arguments
_OTHER_KEYS = {
    'activation_checkpointing',
    'check_classes',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'exact_resume',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'prepare_data',
    'runner_type',
    'strategy',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}

# paths under these keys are not the data set's, even if they begin alike; prepare_data is changed by word
# what mmengine reads of the environment; it ignores other keys
_ENVIRONMENT = {
    'env_cfg': {'cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
}
# what has been done, or is done by an argument, when an option comes
_ELSEWHERE = {'launcher': 'set --launcher', 'custom_imports': 'write it into a config file'}
# dicts that may have any key: a misspelt one would not be noticed
_ANY_KEY = ('metainfo', 'test_cfg', 'train_cfg', 'rpn', 'rcnn')
_NO_MODELS = {'abc', 'builtins', 'mmengine', 'torch', 'typing'}  # they read no such dict
_MOST_PLACES = 8

_NOT_DATA = ('load_from', 'model', 'work_dir', 'prepare_data')


def apply_options(
    cfg: Config, options: Sequence[str], replaced: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Merge ``KEY=VALUE`` strings into ``cfg``; mmengine's ``DictAction`` parses the values.

    A list grows by one entry if a key names the index after its last:
    ``visualizer.vis_backends.1.type=TensorboardVisBackend``.

    Args:
        replaced: keys whose values arguments of the command replace, and the names of these.

    Raises:
        UserError: an option is malformed, its key is misspelt, or setting it would have no effect.
    """
    parsed = _parse(options)
    for key in parsed:
        _refuse_replaced(key, {**_ELSEWHERE, **replaced})
        _check_key(cfg, key)
    try:
        cfg.merge_from_dict(parsed)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f'--cfg-options: {error.args[0]}') from error


def _parse(options: Sequence[str]) -> dict[str, Any]:
    for option in options:
        key, is_pair, value = option.partition('=')
        if not key or not is_pair:
            raise UserError(f'--cfg-options {option}: expected KEY=VALUE')
        if value.lstrip('[( ').startswith('{'):
            raise UserError(
                f'--cfg-options {option}: a dict is set by its keys, as {key}.KEY=VALUE'
            )
    namespace = Namespace(cfg_options=None)
    action = DictAction(['--cfg-options'], 'cfg_options', nargs='+')
    try:
        action(ArgumentParser(), namespace, list(options))
    except (AssertionError, RecursionError) as error:  # unbalanced brackets
        raise UserError(f'--cfg-options: {error}') from error
    return namespace.cfg_options


def _check_key(cfg: Config, key: str) -> None:
    """Refuse a key that is misspelt or without effect; let a list grow if the key names its next index."""
    first, *rest = parts = key.split('.')
    runner_keys = _runner_keys()
    known = {*cfg, *runner_keys}
    if first not in known:
        raise UserError(f'--cfg-options {key}: no such key{_suggest(first, known)}')
    if first not in runner_keys:
        _refuse_variable(cfg, first, rest)
    if first == 'data_preprocessor' and (cfg.get('model') or {}).get(first) is not None:
        raise UserError(f'--cfg-options {key}: the model has one of its own; set model.{key}')
    node: Any = cfg.get(first)
    for depth, part in enumerate(rest, start=1):
        parent, is_last = '.'.join(parts[:depth]), depth == len(rest)
        if node is None and part == '0' and not is_last:  # the first entry of a new list
            cfg.merge_from_dict({parent: []})
            node = []
        if node is None:  # a new part of the config
            return
        if isinstance(node, dict):
            similar = '' if part in node or is_last else _suggest(part, node)
            if similar:
                raise UserError(f'--cfg-options {key}: no {part} in {parent}{similar}')
            if is_last:
                _check_last(cfg, key, node)
            node = node.get(part)
        elif not isinstance(node, (list, tuple)):
            raise UserError(f'--cfg-options {key}: {parent} is {node!r}, which has no keys')
        elif not part.isdigit():
            raise UserError(f'--cfg-options {key}: {parent} is a list; name an entry by its number')
        elif int(part) < len(node):
            node = node[int(part)]
        else:
            if isinstance(node, list) and int(part) == len(node) and not is_last:
                cfg.merge_from_dict({parent: [*node, ConfigDict()]})
            return


def _check_last(cfg: Config, key: str, node: dict) -> None:
    """Refuse a key of ``node`` that nothing reads, in the dicts that libraries do not check."""
    parent, _, last = key.rpartition('.')
    known = _ENVIRONMENT.get(parent)
    if known is not None and last not in known:
        options = ', '.join(sorted(known))
        raise UserError(f'--cfg-options {key}: nothing reads it; {parent} has {options}')
    if last not in node and parent.rpartition('.')[2] in _ANY_KEY:
        similar = _suggest(last, node)
        if similar:
            raise UserError(f'--cfg-options {key}: no {last} in {parent}{similar}')
        if key.startswith('model.') and not _is_read(cfg, last):
            raise UserError(f'--cfg-options {key}: no part of the model reads {last}')


def _is_read(cfg: Config, word: str) -> bool:
    """Whether the packages of the model's parts have the word anywhere; True if that is unknown."""
    from mmengine.registry import MODELS, init_default_scope  # as below

    init_default_scope(cfg.get('default_scope') or 'mmengine')
    parts = (node for _, node in nodes(cfg.get('model'), '') if isinstance(node, dict))
    kinds = [class_of(part, MODELS) for part in parts if 'type' in part]
    if not kinds or not isinstance(kinds[0], type):  # the model itself
        return True
    bases = {base for kind in kinds if isinstance(kind, type) for base in kind.__mro__}
    packages = {base.__module__.partition('.')[0] for base in bases} - _NO_MODELS
    specs = [None if name == '__main__' else find_spec(name) for name in packages]
    places = [getattr(spec, 'submodule_search_locations', None) for spec in specs]
    if None in places:
        return True
    has_word = re.compile(rf'\b{re.escape(word)}\b'.encode()).search
    files = (file for place in places for folder in place for file in Path(folder).rglob('*.py'))
    return any(has_word(file.read_bytes()) for file in files)


def _refuse_replaced(key: str, replaced: Mapping[str, str]) -> None:
    for other, remedy in replaced.items():
        if key == other or key.startswith(f'{other}.'):
            raise UserError(f'--cfg-options {key}: has no effect here; {remedy}')


def _runner_keys() -> set[str]:
    from mmengine.runner import Runner  # loads OpenCV, which a backbone does not need

    return {*inspect.signature(Runner).parameters, *_OTHER_KEYS} - {'cfg'}


def _suggest(name: str, known: Collection[Any]) -> str:
    similar = get_close_matches(name, map(str, known), n=1, cutoff=0.75)
    return f'; did you mean {similar[0]}?' if similar else ''


def _refuse_variable(cfg: Config, name: str, rest: Sequence[str]) -> None:
    """Refuse a variable such as ``data_root``: reading the config has already copied it to its places."""
    value, option = cfg[name], '.'.join([name, *rest])
    parts = [pair for key in sorted(_runner_keys() & {*cfg}) for pair in nodes(cfg[key], key)]
    # many numbers are alike by chance
    named = [place for place, _ in parts if place.rpartition('.')[2] == name]
    equal = [place for place, node in parts if type(node) is type(value) and node == value]
    places = [place for place in named if place in equal] or named or equal
    if not places:
        raise UserError(f'--cfg-options {option}: a variable that nothing reads any more')
    shown = [''.join([place, *(f'.{key}' for key in rest)]) for place in places[:_MOST_PLACES]]
    more = f' and {len(places) - len(shown)} more' if len(places) > len(shown) else ''
    raise UserError(
        f'--cfg-options {option}: a variable, read already; set {", ".join(shown)}{more}'
    )


def use_data_root(cfg: Config, root: str | os.PathLike) -> None:
    """Replace the config's top-level ``data_root`` wherever a path begins with it.

    Data loaders, evaluators, pipelines and everything else except the model take the new root; a path that
    begins differently stays. ``prepare_data``, the command that makes the data, also gets the new root.
    mmengine's config variables cannot do this: the configs of mmdet and mmseg hold paths as plain text.

    Raises:
        UserError: the config has no ``data_root`` at its top level, or no data loader uses it.
    """
    old = cfg.get('data_root')
    if not isinstance(old, str) or not old:
        raise UserError(
            f'--data-root: {cfg.filename} has no data_root at its top level; use --cfg-options'
        )
    old, new = old.rstrip('/'), os.path.expanduser(os.fspath(root)).rstrip('/')
    moved_keys = set()

    def moved(node: Any, key: str) -> Any:
        if isinstance(node, dict):
            return ConfigDict({name: moved(node[name], key) for name in node})
        if isinstance(node, (list, tuple)):
            return type(node)(moved(item, key) for item in node)
        if not isinstance(node, str) or not f'{node}/'.startswith(f'{old}/'):
            return node
        moved_keys.add(key)
        return new + node[len(old) :]

    for key in [key for key in cfg if key not in _NOT_DATA]:
        cfg[key] = moved(cfg[key], key)
    if not any(key.endswith('_dataloader') for key in moved_keys):
        raise UserError(
            f'--data-root: no data loader of {cfg.filename} has a path that begins with its data_root, {old}'
        )
    if isinstance(cfg.get('prepare_data'), str):
        words = shlex.split(cfg.prepare_data)
        cfg.prepare_data = shlex.join(moved(word, 'prepare_data') for word in words)
