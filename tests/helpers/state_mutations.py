"""Ways in which what stands beside the weights may be damaged: the state of a run, and names of classes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

from tests.helpers.mutations import REFUSED, Mutation

_NO_NUMBERS = ['x', None, [1], {}, float('nan'), float('inf')]
_NO_STATE = [torch.int64, torch.bool, torch.complex64]
_NO_COUNTS = [-1, 1.5, 'x', [1], True, 2**70, float('nan')]
_OF_RUNS = dict(tools=('resume',), formats=('zip', 'old'))


def _meta(key: str, values: list[Any]) -> Callable:
    def changed(checkpoint: dict, draw: random.Random) -> None:
        checkpoint['meta'][key] = draw.choice(values)

    return changed


def _state(change: Callable[[dict, str, random.Random], None]) -> Callable:
    """A value of the optimizer's state that belongs to a weight of several values."""

    def changed(checkpoint: dict, draw: random.Random) -> None:
        state = checkpoint['optimizer']['state']
        large = [
            (entry, key)
            for entry in state.values()
            for key, value in entry.items()
            if isinstance(value, torch.Tensor) and value.numel() > 1
        ]
        change(*draw.choice(large), draw)

    return changed


def _group(change: Callable[[dict, random.Random], Any]) -> Callable:
    def changed(checkpoint: dict, draw: random.Random) -> None:
        change(draw.choice(checkpoint['optimizer']['param_groups']), draw)

    return changed


def _swap_parameters(checkpoint: dict, draw: random.Random) -> None:
    """Two groups get each other's parameters; a group may hold a single one."""
    one, other = draw.sample(checkpoint['optimizer']['param_groups'], 2)
    one['params'], other['params'] = other['params'], one['params']


def _number_of_group(group: dict, draw: random.Random) -> None:
    group[draw.choice(['lr', 'weight_decay', 'eps', 'initial_lr'])] = draw.choice(_NO_NUMBERS)


def _scheduler(change: Callable[[dict, random.Random], Any]) -> Callable:
    def changed(checkpoint: dict, draw: random.Random) -> None:
        change(draw.choice(checkpoint['param_schedulers']), draw)

    return changed


def _hub(change: Callable[[dict, random.Random], Any]) -> Callable:
    def changed(checkpoint: dict, draw: random.Random) -> None:
        change(checkpoint['message_hub'], draw)

    return changed


def _curve(change: Callable[[dict, random.Random], Any]) -> Callable:
    def changed(hub: dict, draw: random.Random) -> None:
        change(hub['log_scalars'][draw.choice(list(hub['log_scalars']))], draw)

    return _hub(changed)


def _flip_kept(hub: dict, draw: random.Random) -> None:
    keys = [key for key in hub['resumed_keys'] if key != 'cfg']
    key = draw.choice(keys)
    hub['resumed_keys'][key] = not hub['resumed_keys'][key]


def _poison(tensor: torch.Tensor, draw: random.Random) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[draw.randrange(tensor.numel())] = draw.choice([float('nan'), float('inf')])
    return tensor


def _set(key: str, values: list[Any]) -> Callable:
    return lambda holder, draw: holder.update({key: draw.choice(values)})


def _pop_any(*but: str) -> Callable:
    return lambda holder, draw: holder.pop(draw.choice([key for key in holder if key not in but]))


RUN_STATE = {
    'epoch': _meta('epoch', [*_NO_COUNTS, 1000]),
    'iter': _meta('iter', _NO_COUNTS),
    'seed': _meta('seed', _NO_COUNTS),
    'no epoch': lambda c, draw: c['meta'].pop(draw.choice(['epoch', 'iter'])),
    'a part is missing': lambda c, draw: c.pop(
        draw.choice(['meta', 'optimizer', 'message_hub', 'param_schedulers'])
    ),
    'a part is none': lambda c, draw: c.update(
        {
            draw.choice(['meta', 'optimizer', 'message_hub', 'param_schedulers']): draw.choice(
                [3, 'x', []]
            )
        }
    ),
    'state of another shape': _state(
        lambda e, k, _: e.update({k: e[k][..., None].repeat_interleave(2, -1)})
    ),
    'state of one value': _state(lambda e, k, _: e.update({k: e[k].mean()})),
    'state of another type': _state(
        lambda e, k, draw: e.update({k: e[k].to(draw.choice(_NO_STATE))})
    ),
    'state not finite': _state(lambda e, k, draw: e.update({k: _poison(e[k], draw)})),
    'state no tensor': _state(lambda e, k, draw: e.update({k: draw.choice(['x', None, [1.0]])})),
    'state sparse': _state(lambda e, k, _: e.update({k: e[k].to_sparse()})),
    'state meta': _state(lambda e, k, _: e.update({k: e[k].to('meta')})),
    'state renamed': _state(lambda e, k, _: e.update({f'{k}_': e.pop(k)})),
    'state of no parameter': lambda c, draw: c['optimizer']['state'].update(
        {draw.choice([9999, -1, 'x']): {}}
    ),
    'no state': lambda c, draw: c['optimizer']['state'].clear(),
    'step': lambda c, draw: draw.choice(
        [e for e in c['optimizer']['state'].values() if 'step' in e]
    ).update(
        step=draw.choice([torch.tensor(-1.0), torch.tensor(float('nan')), 'x', torch.ones(3)])
    ),
    'option of a group': _group(_number_of_group),
    'option missing': _group(_pop_any('params')),
    'option unknown': _group(_set('x', [1])),
    'parameters of a group': _group(lambda g, draw: g['params'].pop()),
    'order of parameters': _swap_parameters,
    'a group less': lambda c, draw: c['optimizer']['param_groups'].pop(),
    'a scheduler less': lambda c, draw: c['param_schedulers'].pop(),
    'value of a scheduler missing': _scheduler(_pop_any()),
    'value of a scheduler unknown': _scheduler(_set('step', [1, None])),
    'step of a scheduler': _scheduler(_set('last_step', [-7, 'x', None, 1.5, float('nan')])),
    'rates of a scheduler': _scheduler(_set('base_values', [[], [1], 'x', None, float('nan')])),
    'hub': _hub(_pop_any()),
    'hub of none': _hub(
        lambda hub, draw: hub.update({draw.choice(list(hub)): draw.choice([3, [], 'x'])})
    ),
    'what is kept': _hub(_flip_kept),
    'curve': _curve(_set('log', [3, torch.ones(2, 2), torch.ones(1).to('meta'), None])),
    'counts of a curve': _curve(
        _set('count', [torch.tensor([float('nan')]), torch.ones(999), 'x'])
    ),
    'length of a curve': _curve(_set('__history_buffer__', [-1, 'x', None])),
    'curve of nothing': _hub(
        lambda hub, draw: hub['log_scalars'].update({next(iter(hub['log_scalars'])): 3})
    ),
    'numbers of checkpoints': _hub(
        lambda hub, draw: hub['runtime_info'].update(
            keep_ckpt_ids=draw.choice(['../x', ['../x'], [-1], 3])
        )
    ),
}
RUN_STATE = {name: Mutation(change, **_OF_RUNS) for name, change in RUN_STATE.items()}


def _dataset_meta(key: str, values: list[Any]) -> Callable:
    def changed(checkpoint: dict, draw: random.Random) -> None:
        checkpoint['meta']['dataset_meta'][key] = draw.choice(values)

    return changed


_OF_NAMES = dict(expected=REFUSED, tools=('infer',), formats=('zip', 'old'))
NAMES = {
    'classes': Mutation(
        _dataset_meta('classes', [3, [], ['x'], 'xyz', [1, 2, 3, 4, 5, 6, 7]]), **_OF_NAMES
    ),
    'palette': Mutation(
        _dataset_meta('palette', [3, [], 'x', [[1, 2]] * 9, [[1, 2, 999]] * 9]), **_OF_NAMES
    ),
}
