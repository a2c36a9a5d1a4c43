from __future__ import annotations

import sys

import pytest

from weightformer_mm.ops._shared import compat

WITHOUT = 'Triton is not installed'
OLD = 'the kernels need Triton >= 3.0, installed is 2.3'


@pytest.mark.parametrize(
    ('source', 'obstacle'),
    [
        ("__version__ = '2.3.1'\n", OLD),
        ('"""isort:skip_file"""\n__version__ = "3.0.0"\n', None),
        ("__version__ = '10.1.0+git'\n", None),
        ('', WITHOUT),
        (None, WITHOUT),
    ],
    ids=['old', 'oldest', 'new', 'something else', 'folder'],
)
def test_which_triton_compiles_the_kernels(source, obstacle, tmp_path, monkeypatch):
    (tmp_path / 'triton').mkdir()
    if source is not None:
        (tmp_path / 'triton/__init__.py').write_text(source)
    monkeypatch.delitem(sys.modules, 'triton', raising=False)
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    assert compat.triton_obstacle() == obstacle
