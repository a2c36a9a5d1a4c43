"""What ``tools/complexity.py`` does."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from ...errors import UserError
from ...utils.writing import make_folder, refuse_replacing, written_whole
from .report import Shape, complexity_of_config
from .table import render


def report(
    config: str,
    shapes: Sequence[Shape],
    backbone: bool,
    style: str,
    out: str | None,
    depth: int,
    options: Sequence[str],
) -> None:
    """Print the complexity of a config's model, or write it to the file ``out``, whole or not at all."""
    if depth < 0:
        raise UserError(f'--depth {depth}: expected 0 or more')
    path = None if out is None else Path(out).expanduser()
    if path is not None and path.is_dir():
        raise UserError(f'--out {path}: a folder; name a file')
    if path is not None:
        refuse_replacing('--out', [path], [config])
        path = make_folder(path.parent, '--out') / path.name
    # stdout may be read by another program: what the libraries have to say goes elsewhere
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter('ignore')
        model, results = complexity_of_config(config, shapes, backbone, options)
    name = f'{type(model).__name__} ({Path(config).name})'
    text = render(name, results, style, depth)
    if path is None:
        print(text, end='')
        return
    with written_whole(path) as partial:
        partial.write_text(text, encoding='utf-8')
    print(path)
