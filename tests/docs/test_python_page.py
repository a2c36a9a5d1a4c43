"""The examples of docs/python.md, run in order as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.helpers.commands import Tools
from tests.helpers.pages import blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/python.md').read_text()


def test_the_page(shapes, tmp_path):
    (tmp_path / 'page.py').write_text(''.join(blocks('docs/python.md')))
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/shapes').symlink_to(shapes)
    printed = Tools(tmp_path).run(tmp_path / 'page', env={'PYTHONPATH': str(ROOT)}).ok()
    assert 'torch.Size([1, 96, 96])' in printed
    assert ''.join(re.findall(r'^# (\(.*\n)', PAGE, re.M)) in printed
    found = json.loads((tmp_path / 'seen/predictions.json').read_text())
    pictures = sorted(path.name for path in (tmp_path / 'seen').glob('*.png'))
    assert [Path(entry['image']).name for entry in found] == pictures
