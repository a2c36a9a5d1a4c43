"""Which part of a config an error comes from, by the frames of its traceback.

Libraries check their arguments with assertions and errors of every kind, in their own words. Whatever fails
while a part of a config is built comes from that part.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # translating the error of a missing library needs none
    from mmengine.config import Config

_LONGEST = 400  # characters of a library's message
# their messages say what is wrong without the name of the error
_PLAIN = (ValueError, AssertionError)
# functions that make something of a part of the config, and what they call it
_MAKERS = {
    'build_from_cfg': 'cfg',
    'build_dataloader': 'dataloader',
    'build_evaluator': 'evaluator',
    'register_hook': 'hook',
    'initialize': 'cfg',  # of weights, by an entry of init_cfg
}


def nodes(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """``node`` and everything inside it, each with its place."""
    yield place, node
    items = node.items() if isinstance(node, dict) else ()
    for key, item in enumerate(node) if isinstance(node, (list, tuple)) else items:
        yield from nodes(item, f'{place}.{key}' if place else str(key))


def described(error: BaseException) -> str:
    """An error of a library in one line, with the place that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    text = str(error)
    if 'Original Traceback' in text:  # of a worker of a data loader; the message comes last
        text = text.strip().rpartition('\n')[2]
    text = re.sub(r' in <\S+ object at 0x\w+>$', '', ' '.join(text.split()))
    if not text and last:
        text = f'this does not hold: {last[0].line}'
    if len(text) > _LONGEST:
        text = f'{text[:_LONGEST]}...'
    kind = '' if isinstance(error, _PLAIN) else f'{type(error).__name__}: '
    where = f' ({_short(last[0].filename)}, line {last[0].lineno})' if last else ''
    return f'{kind}{text}{where}'


def _short(filename: str) -> str:
    """A file of a package by its name inside the package's folder; another by its last name."""
    _, found, inside = filename.replace(os.sep, '/').rpartition('/site-packages/')
    return inside if found else os.path.basename(filename)


def file_read(error: BaseException, suffix: str = '') -> str | None:
    """The file, of this suffix, that the innermost function with the name of one read; None if none did."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        for value in frame.f_locals.values():
            is_path = isinstance(value, (str, os.PathLike)) and os.path.isfile(value)
            if is_path and os.fspath(value).endswith(suffix):
                return os.fspath(value)
    return None


def place_built(error: BaseException) -> str | None:
    """Place in the config of the innermost part that was being built; None if none was, or no config's."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    makers = [(f, _named_by(f.f_code.co_name)) for f in frames if _is_library(f.f_globals)]
    built = [frame.f_locals.get(name) for frame, name in makers if name]
    config = _config_of(frames) if built else None
    if config is None:
        return None
    # some builders take a part to pieces before they build it
    handled = (frame.f_locals for frame, _ in reversed(makers))
    parts = [*reversed(built), *(value for values in handled for value in [*values.values()])]
    places = (_place(config, part) for part in parts if isinstance(part, dict))
    return next(filter(None, places), None)


def _named_by(function: str) -> str | None:
    """What a function that makes something of a part of the config calls that part; None for others."""
    is_layer = function.startswith('build_') and function.endswith('_layer')  # of mmcv
    return 'cfg' if is_layer else _MAKERS.get(function)


def _is_library(names: dict[str, Any]) -> bool:
    """Whether a module, given by its names, is of a library that builds what a config says."""
    return names.get('__name__', '').partition('.')[0] in (
        'mmengine',
        'mmcv',
        'mmdet',
        'mmseg',
        'mmpretrain',
        'weightformer_mm',
    )


def place_run(error: BaseException) -> str | None:
    """Place in the config of the innermost part that was running; None if there is none.

    A part of a model is known by its name, anything else (a transform, a metric) by its type.
    """
    from mmengine.model import BaseModel
    from torch import nn

    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    config = _config_of(frames)
    running = [frame.f_locals.get(_runs(frame.f_code.co_name)) for frame in reversed(frames)]
    held = (frame.f_locals.get(name) for frame in frames for name in ('model', 'self'))
    models = [part for part in held if isinstance(part, BaseModel)]
    names = {id(part): name for model in models[:1] for name, part in model.named_modules()}
    places = dict(_read_parts(config)) if config else {}
    modules = [f'model.{names[id(part)]}'.rstrip('.') for part in running if id(part) in names]
    for part in running:
        kind = type(part).__name__
        if id(part) in names:
            place = f'model.{names[id(part)]}'.rstrip('.')
            if place in places:
                return f'{place} ({kind})'
        elif not isinstance(part, nn.Module):
            kinds = {parent.__name__ for parent in type(part).__mro__}
            ordered = sorted(places, key=_is_read)
            alike = [place for place in ordered if type_name(places[place]) in kinds]
            if alike:
                return f'{max(alike, key=partial(_likeness, part, places, modules))} ({kind})'
    return None


def _runs(function: str) -> str:
    """What a function calls the part that runs; mmengine cuts the traceback of a hook."""
    return 'hook' if function == 'call_hook' else 'self'


def _likeness(part: Any, places: dict[str, Any], modules: list[str], place: str) -> tuple[int, int]:
    """How sure it is that a part that ran was made from the config at ``place``.

    Args:
        modules: places of the modules that were running, the innermost first.
    """
    inside = any(place.startswith(f'{module}.') for module in modules[:1])
    values = ((key, value) for key, value in places[place].items() if key != 'type')
    return sum(_is_same(getattr(part, key, None), value) for key, value in values), inside


def type_name(node: Any) -> str:
    """``type`` of a part of a config, whether a class or a name, without its scope; '' if it has none."""
    kind = node.get('type') if isinstance(node, dict) else None
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', None)
    return (name or '').rpartition('.')[2]


def _config_of(frames: list[Any]) -> Config | None:
    """The whole config: what the outermost frame that has one calls ``cfg``, or its runner's."""
    from mmengine.config import Config

    for frame in frames:
        own = frame.f_locals
        holders = (own.get('runner'), own.get('self'))
        found = [own.get('cfg'), *(getattr(holder, 'cfg', None) for holder in holders)]
        for value in found:
            if isinstance(value, Config):
                return value
    return None


def _place(config: Config, part: dict[str, Any]) -> str | None:
    """Where a config has this part, or that of its type which is most like it.

    Libraries add arguments to a part before they build it, or replace some.
    """
    alike: dict[str, int] = {}
    kind = type_name(part)
    if not kind and isinstance(part.get('dataset'), dict):
        return _place_of_loader(config, part['dataset'])
    for place, node in sorted(_read_parts(config), key=lambda pair: _is_read(pair[0])):
        if not place or not node or not isinstance(node, dict) or type_name(node) != kind:
            continue
        if node is part or dict(node) == part:
            return place
        alike[place] = sum(_is_same(part.get(key), value) for key, value in node.items())
    return max(alike, key=alike.__getitem__) if kind and alike else None


def _read_parts(config: Config) -> Iterator[tuple[str, Any]]:
    """The parts of a config that a run reads; ``--tta`` copies what it needs to those of the test."""
    return (part for part in nodes(config._cfg_dict, '') if not part[0].startswith('tta_'))


def _place_of_loader(config: Config, dataset: Any) -> str | None:
    """The key of the data loader with this data set, or one inside it: the runner may wrap it."""
    while isinstance(dataset, dict):
        for key in sorted(filter(lambda key: key.endswith('_dataloader'), config), key=_is_read):
            if (config[key] or {}).get('dataset') == dataset:
                return key
        dataset = dataset.get('dataset')
    return None


def _is_read(place: str) -> tuple[Any, ...]:
    """Orders the places of equal parts: variables are copied to deeper ones, and training comes first."""
    return -place.count('.'), place.startswith('test_'), place.startswith('val_')


def _is_same(one: Any, other: Any) -> bool:
    plain = (str, int, float, list, tuple, dict, type(None))
    return isinstance(one, plain) and isinstance(other, plain) and one == other
