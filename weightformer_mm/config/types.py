"""The classes that a config names; in YAML and JSON all must be registered: mmengine would call any name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from ..errors import UserError
from ..utils.blame import nodes
from .values import SUPPRESSIONS

_SCOPES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')
# keys whose value mmengine looks up like a type
_LOOKED_UP = {'constructor', 'collate_fn', 'auto_wrap_policy', 'worker_init_fn'}


def check_types(cfg: Config, path: Any) -> None:
    """Raise UserError for a name that is not registered, before any is looked up; run after the imports."""
    wanted = list(_names(cfg._cfg_dict))
    scopes = {name.split('.')[0] for _, _, name in wanted} | {cfg.get('default_scope')}
    known = _registered([scope for scope in _SCOPES if scope in scopes or scope == 'mmengine'])
    objects = {id(value) for value in known.values()}
    for place, key, name in wanted:
        if name in known or (key == 'type' and name in SUPPRESSIONS):
            continue
        module, _, attribute = name.rpartition('.')
        named = getattr(sys.modules.get(module), attribute, None)
        if named is not None and id(named) in objects:
            continue
        if key in ('type', 'warp_mode') or '.' in name:
            raise UserError(
                f'{path}: {place}={name[:80]!r} is not registered: misspelt, or not in custom_imports'
            )


def class_of(node: Any, registry: Registry) -> Any:
    """The class, or function, that a config's ``type`` names; None if nothing is registered by that name."""
    if not isinstance(node['type'], str):
        return node['type']
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(node['type'])


def _names(cfg: Any) -> Iterator[tuple[str, str, str]]:
    """Place, key and value of each string that is looked up, or evaluated."""
    for place, node in nodes(cfg, ''):
        for key, value in node.items() if isinstance(node, dict) else ():
            is_name = str(key).endswith('type') or key in _LOOKED_UP
            if isinstance(value, str) and (is_name or key == 'warp_mode'):
                yield f'{place}.{key}'.lstrip('.'), str(key), value


def _registered(scopes: list[str]) -> dict[str, Any]:
    """Everything registered, under its name and under its name with the scope in front."""
    for scope in scopes:
        if find_spec(f'{scope}.registry' if find_spec(scope) else scope):
            import_module(f'{scope}.registry')
    found = {}
    pending = [r for r in vars(mmengine.registry).values() if isinstance(r, Registry)]
    while pending:
        registry = pending.pop()
        if registry.scope in scopes:
            registry.import_from_location()
        for name, value in registry.module_dict.items():
            found[name] = found[f'{registry.scope}.{name}'] = value
        pending += registry.children.values()
    return found
