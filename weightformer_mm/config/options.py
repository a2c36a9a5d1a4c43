"""``--cfg-options KEY=VALUE``: parsed, checked against the config, merged."""

from __future__ import annotations

import inspect
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from ..errors import UserError

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
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}


def apply_options(cfg: Config, options: Sequence[str]) -> None:
    """Merge ``KEY=VALUE`` strings into ``cfg``, values as mmengine's ``DictAction`` reads them.

    A list grows by one entry where a key names the index after its last:
    ``visualizer.vis_backends.1.type=TensorboardVisBackend``.

    Raises:
        UserError: an option is malformed, its key is misspelt, or setting it would have no effect.
    """
    parsed = _parse(options)
    for key in parsed:
        _check_key(cfg, key)
    for key in parsed:
        _grow_list(cfg, key)
    try:
        cfg.merge_from_dict(parsed)
    except (KeyError, TypeError) as error:
        raise UserError(f'--cfg-options: {error.args[0]}') from error


def _parse(options: Sequence[str]) -> dict[str, Any]:
    for option in options:
        if not option.partition('=')[0] or '=' not in option:
            raise UserError(f'--cfg-options {option}: expected KEY=VALUE')
    namespace = Namespace(cfg_options=None)
    action = DictAction(['--cfg-options'], 'cfg_options', nargs='+')
    try:
        action(ArgumentParser(), namespace, list(options))
    except AssertionError as error:  # unbalanced brackets
        raise UserError(f'--cfg-options: {error}') from error
    return namespace.cfg_options


def _check_key(cfg: Config, key: str) -> None:
    from mmengine.runner import Runner  # loads OpenCV, which a backbone does not need

    runner_keys = set(inspect.signature(Runner.__init__).parameters) | _OTHER_KEYS
    first, *rest = key.split('.')
    if first not in {*cfg, *runner_keys}:
        raise UserError(f'--cfg-options {key}: no such key{_suggest(first, {*cfg, *runner_keys})}')
    if not rest and first not in runner_keys:
        _refuse_variable(cfg, first, runner_keys)
    node, parent = cfg.get(first), first
    for part in rest[:-1]:
        child = _child(node, part)
        similar = _suggest(part, node) if child is None and isinstance(node, dict) else ''
        if similar:
            raise UserError(f'--cfg-options {key}: no {part} in {parent}{similar}')
        node, parent = child, f'{parent}.{part}'


def _child(node: Any, part: str) -> Any:
    if isinstance(node, dict):
        return node.get(part)
    if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    return None


def _suggest(name: str, known: Collection[Any]) -> str:
    similar = get_close_matches(name, map(str, known), n=1, cutoff=0.75)
    return f'; did you mean {similar[0]}?' if similar else ''


def _grow_list(cfg: Config, key: str) -> None:
    """Append an empty dict for an option to fill in, where ``key`` asks for one entry more than there is."""
    parts = key.split('.')
    node: Any = cfg.get(parts[0])
    for depth, part in enumerate(parts[1:-1], start=1):
        if isinstance(node, list) and part == str(len(node)):
            cfg.merge_from_dict({'.'.join(parts[:depth]): [*node, ConfigDict()]})
        node = _child(node, part)


def _refuse_variable(cfg: Config, name: str, runner_keys: set[str]) -> None:
    """A variable such as ``data_root`` was copied to where it counts when the config was read."""
    value = cfg[name]
    places = [
        place
        for key in runner_keys & {*cfg}
        for place, node in nodes(cfg[key], key)
        if type(node) is type(value) and node == value
    ]
    if places:
        shown = ', '.join(sorted(places)[:4]) + (', ...' if len(places) > 4 else '')
        raise UserError(
            f'--cfg-options {name}: a variable of the config file, without effect once the file is read; '
            f'set {shown}'
        )


def nodes(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Everything in ``node``, itself included, and its place."""
    yield place, node
    items = node.items() if isinstance(node, dict) else ()
    for key, item in enumerate(node) if isinstance(node, (list, tuple)) else items:
        yield from nodes(item, f'{place}.{key}')
