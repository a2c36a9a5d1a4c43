"""Complexity as a table, Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ...utils.tables import markdown_table, text_table
from .model_cost import Complexity, ModuleCost

CONVENTIONS = (
    'One multiply-add counts as one ("FLOPs" of mmdet). Elementwise operations, activations, norms, '
    'pooling, resizing, reductions, sorting and moving data count as nothing.',
    'Activations: all tensors that operations allocate in one forward pass, also those freed again; '
    'views and operations in place allocate none.',
)
_HEAD = ('module', 'type', 'parameters (M)', 'multiply-adds (G)', 'activations (M)', 'MiB')
_MEBI = 2**20


def render(name: str, results: Sequence[Complexity], style: str, depth: int = 2) -> str:
    """The results as text.

    Args:
        name: what was measured, for the headings.
        results: one for each shape.
        style: 'table', 'markdown' or 'json'.
        depth: levels of modules below the model.
    """
    return {'table': _text, 'markdown': _markdown, 'json': _json}[style](name, results, depth)


def _text(name: str, results: Sequence[Complexity], depth: int) -> str:
    parts = []
    for result in results:
        rows = _rows(result, depth, lambda module: '  ' * module.depth + module.name.split('.')[-1])
        parts += [_title(name, result), text_table(_HEAD, rows), *_remarks(result), '']
    return '\n'.join([*parts, *CONVENTIONS]) + '\n'


def _markdown(name: str, results: Sequence[Complexity], depth: int) -> str:
    parts = []
    for result in results:
        table = markdown_table(_HEAD, _rows(result, depth, lambda module: module.name), align=True)
        remarks = ''.join(f'- {remark}\n' for remark in _remarks(result))
        parts += [f'### {_title(name, result)}\n', table, remarks]
    return '\n'.join([*parts, '\n\n'.join(CONVENTIONS)]) + '\n'


def _json(name: str, results: Sequence[Complexity], depth: int) -> str:
    report = {
        'model': name,
        'conventions': CONVENTIONS,
        'results': [_plain(result, depth) for result in results],
    }
    return json.dumps(report, indent=2) + '\n'


def _plain(result: Complexity, depth: int) -> dict[str, Any]:
    total = asdict(result.total)
    return {
        'shape': result.shape,
        'input_shape': result.input_shape,
        **{key: value for key, value in total.items() if key not in ('name', 'kind')},
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


def _rows(
    result: Complexity, depth: int, label: Callable[[ModuleCost], str]
) -> list[tuple[str, ...]]:
    return [
        (
            label(module) or 'total',
            module.kind,
            f'{module.parameters / 1e6:.3f}',
            f'{module.multiply_adds / 1e9:.3f}',
            f'{module.elements / 1e6:.2f}',
            f'{module.bytes / _MEBI:.1f}',
        )
        for module in _shown(result, depth)
    ]


def _title(name: str, result: Complexity) -> str:
    return f'{name} at {result.shape[0]}x{result.shape[1]}'


def _remarks(result: Complexity) -> list[str]:
    named = [
        f'{name} ({calls} {"call" if calls == 1 else "calls"}'
        + ('; the matrix products inside are)' if name in result.counted_inside else ')')
        for name, calls in result.not_counted.items()
    ]
    return [*result.notes, f'not counted: {", ".join(named) or "nothing"}']
