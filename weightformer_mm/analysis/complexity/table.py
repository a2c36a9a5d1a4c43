"""Complexity as a table, Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...utils.tables import markdown_table, text_table
from .model_cost import Complexity, ModuleCost

CONVENTIONS = (
    'One multiply-add counts as one ("FLOPs" of mmdet). Elementwise operations, activations, norms, '
    'pooling, resizing, reductions, sorting and moving data count as nothing. Matrix products count wherever '
    'they run, also inside operators that are not counted.',
    'Activations: all tensors that operations allocate in one forward pass, also those freed again; '
    'views and operations in place allocate none.',
)
_HEAD = ('module', 'type', 'parameters (M)', 'multiply-adds (G)', 'activations (M)', 'MiB')


def render(name: str, results: Sequence[Complexity], style: str, depth: int = 2) -> str:
    """The results as text.

    Args:
        name: what was measured, for the headings.
        results: one per shape.
        style: 'table', 'markdown' or 'json'.
        depth: levels of modules below the model.
    """
    if style == 'json':
        plain = [_plain(result, depth) for result in results]
        report = {'model': name, 'conventions': CONVENTIONS, 'results': plain}
        return json.dumps(report, indent=2) + '\n'
    parts = []
    for result in results:
        title, remarks = f'{name} at {result.shape[0]}x{result.shape[1]}', _remarks(result)
        rows = [_row(module, style) for module in _shown(result, depth)]
        if style == 'markdown':
            table = markdown_table(_HEAD, rows, align=True)
            parts += [f'### {title}\n', table, *(f'- {remark}' for remark in remarks), '']
        else:
            parts += [title, text_table(_HEAD, rows), *remarks, '']
    gap = '\n\n' if style == 'markdown' else '\n'
    return '\n'.join([*parts, gap.join(CONVENTIONS)]) + '\n'


def _plain(result: Complexity, depth: int) -> dict[str, Any]:
    total = asdict(result.total)
    return {
        'shape': result.shape,
        'input_shape': result.input_shape,
        **{key: value for key, value in total.items() if key not in ('name', 'kind')},
        'operations': result.operations,
        'counted_as_nothing': result.free,
        'not_counted': result.not_counted,
        'notes': result.notes,
        'modules': [asdict(module) for module in _shown(result, depth)],
    }


def _shown(result: Complexity, depth: int) -> list[ModuleCost]:
    return [
        module
        for module in result.modules
        if module.depth <= depth and (module.parameters or module.multiply_adds or module.elements)
    ]


def _row(module: ModuleCost, style: str) -> tuple[str, ...]:
    indented = '  ' * module.depth + module.name.split('.')[-1]
    return (
        (module.name if style == 'markdown' else indented) or 'total',
        module.kind,
        f'{module.parameters / 1e6:.3f}',
        f'{module.multiply_adds / 1e9:.3f}',
        f'{module.elements / 1e6:.2f}',
        f'{module.bytes / 2**20:.1f}',
    )


def _remarks(result: Complexity) -> list[str]:
    named = [
        f'{name} ({calls} {"call" if calls == 1 else "calls"})'
        for name, calls in result.not_counted.items()
    ]
    return [*result.notes, f'not counted: {", ".join(named) or "nothing"}']
