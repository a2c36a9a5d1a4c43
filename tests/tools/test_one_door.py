"""Everything that could run code from a file is read by one module, and what it hands on is inert."""

from __future__ import annotations

from pathlib import Path

import pytest

from weightformer_mm.checkpoints import safe_load


@pytest.mark.timeout(900)  # three trainings and more in one process
def test_one_door(tools, segmentation, tmp_path):
    script = Path(__file__).parents[1] / 'helpers/one_door'
    result = tools.run(
        script, segmentation.config, segmentation.checkpoint, segmentation.data, tmp_path
    )
    (line,) = (line for line in result.ok().splitlines() if line.startswith('readers: '))
    assert line == f'readers: {safe_load.__file__}'
    assert not (tmp_path / 'owned').exists()
