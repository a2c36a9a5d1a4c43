"""Metafiles and published results of peers as markdown tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weightformer_mm.utils.tables import markdown_table

from .metafile import Cost
from .recipes import Family

PEERS = Path(__file__).with_name('peers.yml')
ROOT = '../'  # from the page to the repository
_METHODS = {
    'mask-rcnn': 'Mask R-CNN',
    'cascade-mask-rcnn': 'Cascade Mask R-CNN',
    'retinanet': 'RetinaNet',
    'dino-4scale': 'DINO, 4 scales',
    'rtmdet-ins': 'RTMDet-Ins',
    'upernet': 'UPerNet',
    'sem-fpn': 'Semantic FPN',
    'segformer': 'SegFormer head',
    'mask2former': 'Mask2Former',
}


def recipe_table(family: Family, metafile: dict[str, Any]) -> str:
    """The recipes of one folder; the cells of the metrics stay empty until they are trained here."""
    head = ['recipe', 'schedule', 'parameters', 'multiply-adds', *family.metrics, 'weights']
    rows = []
    for model in metafile['Models']:
        metadata = model['Metadata']
        parameters, multiply_adds = _cells(_cost(model))
        height, width = map(int, metadata['FLOPs Shape'].split('x'))
        if (height, width) != family.shape:
            multiply_adds += f' at {height}x{width}'
        name = f'[{model["Name"]}]({ROOT}{model["Config"]})'
        cells = [name, _schedule(metadata), parameters, multiply_adds]
        rows.append([*cells, *_results(model, family), model['Weights']])
    return markdown_table(head, rows)


def comparison_table(
    family: Family,
    metafile: dict[str, Any],
    peers: Iterable[dict[str, Any]],
    measured: dict[str, Cost],
    method: str,
    schedule: str,
) -> str:
    """Recipes and peers with one method and schedule, the cheapest first.

    A recipe's name ends in the schedule, such as ``1x_coco``; a peer has the part before ``_``. The costs of
    recipes and of peers in ``measured`` are counted here; those of other peers are as published.
    """
    rows = []
    for model in metafile['Models']:
        if model['Name'].startswith(f'{method}_') and model['Name'].endswith(schedule):
            cost = _cost(model)
            name = f'[{_backbone(model["Name"])}]({ROOT}{model["Config"]})'
            results = _results(model, family)
            rows.append(
                (cost.multiply_adds, [name, *_cells(cost), *results, _source(model, results)])
            )
    for peer in peers:
        if peer['method'] != method or peer['schedule'] != schedule.partition('_')[0]:
            continue
        counted = measured.get(peer['backbone'])
        cost = counted or published_cost(peer)
        cells = ['', ''] if cost is None else _cells(cost, digits=1 if counted else 0)
        key = float('inf') if cost is None else cost.multiply_adds
        rows.append((key, [peer['backbone'], *cells, *_published(peer), peer['source']]))
    head = ['backbone', 'parameters', 'multiply-adds', *family.metrics, 'source of the accuracy']
    return markdown_table(head, [cells for _, cells in sorted(rows, key=lambda row: row[0])])


def peer_table(family: Family, peers: Iterable[dict[str, Any]], measured: dict[str, Cost]) -> str:
    """Published results of peers, with what this project counted for those whose config is at hand."""
    head = ['backbone', 'method', 'schedule', 'parameters', 'multiply-adds', 'counted here']
    head += [*family.metrics, 'source']
    rows = []
    for peer in peers:
        cost, counted = published_cost(peer), measured.get(peer['backbone'])
        rows.append(
            [
                peer['backbone'],
                _METHODS[peer['method']],
                peer['schedule'],
                *(['', ''] if cost is None else _cells(cost, digits=0)),
                '' if counted is None else ', '.join(_cells(counted)),
                *_published(peer),
                peer['source'],
            ]
        )
    return markdown_table(head, rows)


def published_cost(peer: dict[str, Any]) -> Cost | None:
    """The cost that a peer's own publication states."""
    if 'flops' not in peer:
        return None
    return Cost(peer['parameters'] * 10**6, peer['flops'] * 10**9)


def _cost(model: dict[str, Any]) -> Cost:
    return Cost(model['Metadata']['Parameters'], model['Metadata']['FLOPs'])


def _cells(cost: Cost, digits: int = 1) -> list[str]:
    """Parameters and multiply-adds, as ``27.1 M`` and ``75.6 G``."""
    return [f'{cost.parameters / 1e6:.{digits}f} M', f'{cost.multiply_adds / 1e9:.{digits}f} G']


def _backbone(recipe: str) -> str:
    """The backbone in a recipe's name, such as ``PyramidWeightFormer-tiny``."""
    kind, _, arch = recipe.split('_')[1].rpartition('-')
    return {'pyramid-weightformer': 'PyramidWeightFormer', 'weightformer': 'WeightFormer'}[
        kind
    ] + f'-{arch}'


def _source(model: dict[str, Any], results: list[str]) -> str:
    return 'this project' if any(results) else model['Weights']


def _published(peer: dict[str, Any]) -> list[str]:
    return [str(value) for value in peer['results']]


def _schedule(metadata: dict[str, Any]) -> str:
    length = f'{metadata["Epochs"]} epochs' if 'Epochs' in metadata else ''
    if 'Iterations' in metadata:
        length = f'{metadata["Iterations"] // 1000}k iterations'
    return f'{length}, batch {metadata["Batch Size"]}'


def _results(model: dict[str, Any], family: Family) -> list[str]:
    found = {
        name: value for result in model['Results'] for name, value in result['Metrics'].items()
    }
    return [str(found.get(metric, '')) for metric in family.metrics]
