"""Ways in which a checkpoint may be damaged or crafted, drawn at random from a seed."""

from __future__ import annotations

import copy
import os
import random
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer

from tests.helpers.pickles import Call

REFUSED, INERT, SAME = 'refused', 'inert', 'same or refused'
ZIP, OLD, SAFETENSORS = 'zip', 'old', 'safetensors'
EVERYWHERE = ('test', 'infer', 'load_from', 'resume')


@dataclass(frozen=True)
class Mutation:
    """A way to change a checkpoint.

    Attributes:
        change: of the checkpoint (dict, random) or, for ``of_bytes``, of the file's bytes.
        expected: REFUSED; INERT: it may be taken, as nothing tells it from a whole one, and runs nothing;
            SAME: refused, or what is read is bit for bit what was written.
        tools: that would read what is changed.
        formats: that can hold it.
    """

    change: Callable[[Any, random.Random], Any]
    expected: str = REFUSED
    tools: tuple[str, ...] = EVERYWHERE
    formats: tuple[str, ...] = (ZIP, OLD, SAFETENSORS)
    of_bytes: bool = False


def write(checkpoint: dict, mutation: Mutation, form: str, path: Path, draw: random.Random) -> Path:
    """Write a changed copy of ``checkpoint``; returns the path with the suffix of the format."""
    path = path.with_suffix('.safetensors' if form == SAFETENSORS else '.pth')
    checkpoint = copy.deepcopy(checkpoint)
    if not mutation.of_bytes:
        checkpoint = mutation.change(checkpoint, draw) or checkpoint
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if form == SAFETENSORS:
            weights = {n: v.contiguous() for n, v in checkpoint['state_dict'].items()}
            safetensors.torch.save_file(weights, path)
        else:
            torch.save(checkpoint, path, _use_new_zipfile_serialization=form == ZIP)
    if mutation.of_bytes:
        path.write_bytes(mutation.change(path.read_bytes(), draw))
    return path


# -- weights ----------------------------------------------------------------------------------------------


def _weight(change: Callable[[torch.Tensor, random.Random], Any]) -> Callable:
    """``change`` of one weight of floating point with at least two values."""

    def changed(checkpoint: dict, draw: random.Random) -> None:
        weights = checkpoint['state_dict']
        names = [n for n, v in weights.items() if v.is_floating_point() and v.numel() > 1]
        name = draw.choice(names)
        weights[name] = change(weights[name].clone(), draw)

    return changed


def _value(value: float) -> Callable:
    def set_one(tensor: torch.Tensor, draw: random.Random) -> torch.Tensor:
        tensor.view(-1)[draw.randrange(tensor.numel())] = value
        return tensor

    return _weight(set_one)


def _named(change: Callable[[dict, str], None]) -> Callable:
    def changed(checkpoint: dict, draw: random.Random) -> None:
        weights = checkpoint['state_dict']
        change(weights, draw.choice([n for n in weights if not n.endswith('num_batches_tracked')]))

    return changed


def _quantised(tensor: torch.Tensor, _: random.Random) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


_DTYPES = (torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64)
_PICKLED = dict(formats=(ZIP, OLD))
WEIGHTS = {
    'another value': Mutation(_value(0.5), INERT),
    'NaN': Mutation(_value(float('nan'))),
    'infinite': Mutation(_value(float('inf'))),
    'minus infinite': Mutation(_value(float('-inf'))),
    'one row less': Mutation(_weight(lambda t, _: t[:-1] if len(t) > 1 else t[0])),
    'one dimension more': Mutation(_weight(lambda t, _: t[None])),
    'transposed': Mutation(_weight(lambda t, _: t[None].transpose(0, -1))),
    'empty': Mutation(_weight(lambda t, _: t[:0])),
    'another type': Mutation(_weight(lambda t, draw: t.to(draw.choice(_DTYPES)))),
    'sparse': Mutation(_weight(lambda t, _: t.to_sparse()), formats=(ZIP,)),
    'compressed sparse': Mutation(
        _weight(lambda t, _: t.reshape(len(t), -1).to_sparse_csr()), formats=(ZIP,)
    ),
    'meta': Mutation(_weight(lambda t, _: t.to('meta')), formats=(ZIP,)),
    'quantised': Mutation(_weight(_quantised), **_PICKLED),
    'no tensor': Mutation(
        _weight(lambda t, draw: draw.choice([3, None, 'x', [1.0], {}])), **_PICKLED
    ),
    'missing': Mutation(_named(lambda weights, name: weights.pop(name))),
    'unexpected': Mutation(
        _named(lambda weights, name: weights.update({f'{name}.x': torch.ones(2)}))
    ),
    'renamed': Mutation(
        _named(lambda weights, name: weights.update({f'{name}_': weights.pop(name)}))
    ),
    'wrapped beside': Mutation(
        _named(lambda weights, name: weights.update({f'module.{name}': weights[name].clone()}))
    ),
    'one wrapped': Mutation(
        _named(lambda weights, name: weights.update({f'module.{name}': weights.pop(name)}))
    ),
    'name a number': Mutation(
        _named(lambda weights, name: weights.update({7: weights.pop(name)})), **_PICKLED
    ),
    'no weights': Mutation(
        lambda c, draw: c.update(state_dict=draw.choice([{}, 3, []])), **_PICKLED
    ),
}


# -- files ------------------------------------------------------------------------------------------------


def _flip(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def _blank(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes(len(data[place : place + 512])) + data[place + 512 :]


def _rewritten(change: Callable[[zipfile.ZipFile, dict[str, bytes]], None]) -> Callable:
    def changed(data: bytes, _: random.Random) -> bytes:
        path = Path(os.environ.get('TMPDIR', '/tmp'), f'rewritten-{os.getpid()}')
        path.write_bytes(data)
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with warnings.catch_warnings(), zipfile.ZipFile(path, 'w') as archive:
            warnings.simplefilter('ignore')
            change(archive, content)
        data = path.read_bytes()
        path.unlink()
        return data

    return changed


def _twice(archive: zipfile.ZipFile, content: dict[str, bytes]) -> None:
    for name, data in [*content.items(), *content.items()]:
        archive.writestr(name, data)


def _compressed(archive: zipfile.ZipFile, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        archive.writestr(name, data, zipfile.ZIP_DEFLATED)


FILES = {
    'flipped bit': Mutation(_flip, SAME, formats=(ZIP,), of_bytes=True),
    'blank block': Mutation(_blank, SAME, formats=(ZIP,), of_bytes=True),
    'flipped bit without checksum': Mutation(
        _flip, INERT, formats=(OLD, SAFETENSORS), of_bytes=True
    ),
    'truncated': Mutation(lambda data, draw: data[: draw.randrange(len(data))], of_bytes=True),
    'something behind': Mutation(
        lambda data, draw: data + b'\0' * draw.randrange(1, 999), of_bytes=True
    ),
    'something before': Mutation(lambda data, draw: b'PK' + data, of_bytes=True),
    'entries twice': Mutation(_rewritten(_twice), formats=(ZIP,), of_bytes=True),
    'entries compressed': Mutation(_rewritten(_compressed), formats=(ZIP,), of_bytes=True),
}


# -- crafted ----------------------------------------------------------------------------------------------


def trace() -> str:
    """What every crafted file tries to make."""
    return os.environ['MUTATION_TRACE']


def _calls() -> list[Call]:
    code = f'import os; os.mkdir({trace()!r})'
    return [
        Call(os.mkdir, trace()),
        Call(os.system, f'mkdir {trace()}'),
        Call(exec, code),
        Call(eval, f'__import__("os").mkdir({trace()!r})'),
        Call(getattr, HistoryBuffer, '__init__'),
        Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__globals__'),
        Call(open, trace(), 'w'),
    ]


def _holders(checkpoint: dict) -> list[dict]:
    return [
        checkpoint,
        checkpoint['meta'],
        checkpoint['state_dict'],
        checkpoint['optimizer'],
        checkpoint['message_hub']['runtime_info'],
    ]


def _with_call(checkpoint: dict, draw: random.Random) -> None:
    draw.choice(_holders(checkpoint))['x'] = draw.choice(_calls())


def _with_config(checkpoint: dict, draw: random.Random) -> None:
    for holder in (checkpoint['meta'], checkpoint['message_hub']['runtime_info']):
        for key in ('config', 'cfg'):
            holder[key] = f'import os\nos.mkdir({trace()!r})\n'


def _bomb(checkpoint: dict, draw: random.Random) -> None:
    nested: Any = [1]
    for _ in range(draw.choice([40, 150])):
        nested = [nested, nested]
    checkpoint['meta']['x'] = nested


def _circle(checkpoint: dict, draw: random.Random) -> None:
    circle: list = []
    circle.append(circle)
    checkpoint['message_hub']['runtime_info']['x'] = circle


def _claims(checkpoint: dict, draw: random.Random) -> None:
    """A weight of one value that says it were a great many."""
    weights = checkpoint['state_dict']
    weights[draw.choice(list(weights))] = torch.ones(1).expand(draw.choice([10**9, 10**14]))


CRAFTED = {
    'call': Mutation(_with_call, **_PICKLED),
    'config': Mutation(_with_config, INERT, **_PICKLED),
    'bomb': Mutation(_bomb, formats=(ZIP,)),
    'circle': Mutation(_circle, formats=(ZIP,)),
    'claims': Mutation(_claims, **_PICKLED),
}
