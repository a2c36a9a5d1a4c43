"""The page that shows a run of the demo: pictures, curves, results and what to type next, in one file."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from weightformer_mm.utils.writing import written_whole

from ..runs import all_scalars
from .tasks import TaskFolder, short_path

_QUALITY = 85  # of the pictures, as JPEG
_INK = '#010203'  # stands for the colour of the text, which follows the reader's theme
_LINES = ('#c0561a', '#2a78c2')  # loss, metric: 3:1 on white and on the dark background
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #d0d7de; --link: #0b5cad }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #14181d; --line: #3d444d; --link: #79b8ff }
}
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif }
img, svg { max-width: 100%; height: auto }
table { border-collapse: collapse }
th, td { padding: .3rem min(.8rem, 1.5vw); border-bottom: 1px solid var(--line); text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line) }
a { color: var(--link) }
figure { margin: 1rem 0 }
"""
_NEXT = {
    'Draw what the trained detector sees in your pictures': (
        'python tools/infer.py {config} {checkpoint} PICTURES --out seen'
    ),
    'Check your own data, then train on it (docs/custom_data.md)': (
        'python tools/check_dataset.py CONFIG --data-root DATA'
    ),
    "Train by the recipes' own, longer schedules": 'make demo FULL=1',
}


def write_report(folders: Sequence[TaskFolder], first: Sequence[Path], out: Path) -> Path:
    """Write the page, which needs no other file and asks nothing of any server.

    Args:
        folders: trained and evaluated.
        first: sheets of what the weights that ship see.
        out: the HTML file.
    """
    parts = [
        '<h1>weightformer_mm: the demo</h1>',
        '<p>A detector and a segmentor, trained here from scratch on generated pictures, '
        'and evaluated on pictures that neither has seen.</p>',
        '<h2>Results</h2>',
        _table(folders),
    ]
    for folder in folders:
        name = folder.task.name
        parts += [
            f'<h2>{name.capitalize()}</h2>',
            _figure(
                _curves(folder), 'Loss (orange, left) and metric (blue, right) in the training.'
            ),
            _picture(
                folder.sheet, f'{name}: image, truth and prediction of some validation images'
            ),
        ]
    if first:
        parts += ['<h2>The weights that ship with the package</h2>']
    parts += [_picture(sheet, f'{sheet.stem}: image and prediction') for sheet in first]
    parts += ['<h2>What to type next</h2>', *_commands(folders[0])]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f'<title>weightformer_mm: the demo</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n'
        + '\n'.join(parts)
        + '\n</main>\n</body>\n</html>\n'
    )
    with written_whole(out) as partial:
        partial.write_text(page, encoding='utf-8')
    return out


def _table(folders: Sequence[TaskFolder]) -> str:
    head = ''.join(
        f'<th scope="col">{title}</th>' for title in ('task', 'metric', 'value', 'training')
    )
    return f'<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{"".join(_rows(folders))}</tbody>\n</table>'


def _rows(folders: Sequence[TaskFolder]) -> Iterator[str]:
    for folder in folders:
        minutes = folder.read_state()['train_seconds'] / 60
        for title, value in folder.metric_values().items():
            yield (
                f'<tr><th scope="row">{folder.task.name}</th><td>{title}</td>'
                f'<td class="number">{value:.3f}</td><td class="number">{minutes:.1f} min</td></tr>\n'
            )


def _picture(path: Path, text: str) -> str:
    stream = io.BytesIO()
    with Image.open(path) as image:
        width, height = image.size
        image.convert('RGB').save(stream, 'JPEG', quality=_QUALITY)
    data = base64.b64encode(stream.getvalue()).decode()
    shown = html.escape(text, quote=True)
    return _figure(
        f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" alt="{shown}">',
        text,
    )


def _figure(content: str, caption: str) -> str:
    return f'<figure>\n{content}\n<figcaption>{html.escape(caption)}</figcaption>\n</figure>'


def _curves(folder: TaskFolder) -> str:
    """Loss and metric over the iterations, as SVG that takes its colours from the page."""
    lines = all_scalars(folder.root)
    title, name, factor = folder.task.main_metric
    losses = [(line['step'], line['loss']) for line in lines if 'loss' in line]
    # a validation is logged with the epoch as its step
    iteration, metrics = 0, []
    for line in lines:
        iteration = line['step'] if 'loss' in line else iteration
        if name in line:
            metrics.append((iteration, line[name] * factor))
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': '', 'font.family': 'sans-serif'}):
        figure = Figure(figsize=(9, 3), layout='constrained')
        axes = figure.subplots()
        _plot(axes, losses, 'loss', _LINES[0])
        axes.set_xlabel('iteration', color=_INK)
        _plot(axes.twinx(), metrics, title, _LINES[1], marker='o')
        stream = io.StringIO()
        figure.savefig(stream, format='svg', transparent=True, metadata={'Date': None})
    text = stream.getvalue()
    label = html.escape(f'{folder.task.name}: loss and {title} over the iterations', quote=True)
    svg = text[text.index('<svg') :].replace('<svg', f'<svg role="img" aria-label="{label}"', 1)
    # names are unique within a picture, but not on a page
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf'\1{folder.task.name}-', svg)
    return svg.replace(_INK, 'currentColor')


def _plot(axes, points, title: str, colour: str, **style: str) -> None:
    axes.plot(*zip(*points), color=colour, **style)
    axes.set_ylabel(title, color=_INK)
    axes.set_ylim(bottom=0)
    axes.tick_params(colors=_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)


def _commands(folder: TaskFolder) -> Iterator[str]:
    values = dict(config=short_path(folder.config), checkpoint=short_path(folder.checkpoint()))
    for text, command in _NEXT.items():
        shown = html.escape(command.format(**values))
        yield f'<p>{html.escape(text)}:</p>\n<pre tabindex="0"><code>{shown}</code></pre>'
