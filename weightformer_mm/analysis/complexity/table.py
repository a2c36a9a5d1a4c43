"""Complexity as a table, Markdown or JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .cost import Complexity, ModuleCost

CONVENTIONS = (
    'One multiply-add counts as one ("FLOPs" of mmdet). Elementwise operations, activations, norms, '
    'pooling, resizing, reductions, sorting and moving data count as nothing.',
    'Activations: all tensors that operations allocate in one forward pass, also those freed again; '
    'views and operations in place allocate none.',
)
_MEBI = 2**20


def render(name: str, results: Sequence[Complexity], style: str, depth: int = 2) -> str:
    """The results as text in one of `FORMATS`.

    Args:
        name: what was measured, for the headings.
        results: one for each shape.
        style: 'table', 'markdown' or 'json'.
        depth: levels of modules below the model; JSON has them all.
    """
    return FORMATS[style](name, results, depth)


def _text(name: str, results: Sequence[Complexity], depth: int) -> str:
    parts = [
        f'{name} at {_size(result.shape)}\n{_grid(result, depth, box.SIMPLE_HEAD)}\n{_footer(result, "")}'
        for result in results
    ]
    return '\n'.join([*parts, *CONVENTIONS]) + '\n'


def _markdown(name: str, results: Sequence[Complexity], depth: int) -> str:
    parts = [
        f'### {name} at {_size(result.shape)}\n\n'
        f'{_grid(result, depth, box.MARKDOWN)}\n\n{_footer(result, "- ")}'
        for result in results
    ]
    return '\n'.join([*parts, '\n\n'.join(CONVENTIONS)]) + '\n'


def _json(name: str, results: Sequence[Complexity], depth: int) -> str:
    report = {
        'model': name,
        'conventions': CONVENTIONS,
        'results': [_plain(result, depth) for result in results],
    }
    return json.dumps(report, indent=2) + '\n'


FORMATS = {'table': _text, 'markdown': _markdown, 'json': _json}


def _plain(result: Complexity, depth: int) -> dict[str, Any]:
    total = asdict(result.total)
    return {
        'shape': result.shape,
        'input_shape': result.input_shape,
        **{key: total[key] for key in ('parameters', 'multiply_adds', 'elements', 'bytes')},
        'operations': result.operations,
        'counted_as_nothing': result.free,
        'not_counted': result.not_counted,
        'counted_inside': sorted(result.counted_inside),
        'notes': result.notes,
        'modules': [asdict(module) for module in _shown(result, depth)],
    }


def _shown(result: Complexity, depth: int) -> list[ModuleCost]:
    return [
        module
        for module in result.modules
        if module.depth <= depth and (module.parameters or module.multiply_adds or module.elements)
    ]


def _grid(result: Complexity, depth: int, style: box.Box) -> str:
    table = Table(box=style, pad_edge=style is box.MARKDOWN)
    table.add_column('module', no_wrap=True)
    table.add_column('type', no_wrap=True)
    for heading in ('parameters (M)', 'multiply-adds (G)', 'activations (M)', 'MiB'):
        table.add_column(heading, justify='right', no_wrap=True)
    for module in _shown(result, depth):
        label = module.name if style is box.MARKDOWN else _indented(module)
        table.add_row(
            label or 'total',
            module.kind,
            f'{module.parameters / 1e6:.3f}',
            f'{module.multiply_adds / 1e9:.3f}',
            f'{module.elements / 1e6:.2f}',
            f'{module.bytes / _MEBI:.1f}',
        )
    stream = io.StringIO()
    Console(file=stream, width=10_000, color_system=None, markup=False).print(table)
    return '\n'.join(line.rstrip() for line in stream.getvalue().splitlines()).strip('\n')


def _indented(module: ModuleCost) -> str:
    return '  ' * module.depth + module.name.rpartition('.')[2]


def _footer(result: Complexity, bullet: str) -> str:
    lines = [*result.notes, f'not counted: {_not_counted(result)}']
    return '\n'.join(bullet + line for line in lines) + '\n'


def _not_counted(result: Complexity) -> str:
    return (
        ', '.join(
            f'{name} ({calls} {"call" if calls == 1 else "calls"}'
            + ('; the matrix products inside are)' if name in result.counted_inside else ')')
            for name, calls in result.not_counted.items()
        )
        or 'nothing'
    )


def _size(shape: tuple[int, int]) -> str:
    return f'{shape[0]}x{shape[1]}'
