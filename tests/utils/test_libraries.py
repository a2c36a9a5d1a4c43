from __future__ import annotations

import sys

import pytest

from weightformer_mm.errors import UserError
from weightformer_mm.utils.libraries import require_libraries


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmseg', 'mmpretrain'])
def test_installed_libraries_pass(scope):
    require_libraries(scope)


def test_missing_library_names_the_extras():
    with pytest.raises(UserError, match=r'mmnone, which .*\[onedl\].*\[openmmlab\]'):
        require_libraries('mmnone')


def test_mmpretrain_has_an_extra_of_its_own(monkeypatch):
    monkeypatch.setattr('weightformer_mm.utils.libraries.find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'mmpretrain, which .*\[pretrain\]'):
        require_libraries('mmpretrain')


def test_missing_operators(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    with pytest.raises(UserError, match='mmcv has no compiled operators'):
        require_libraries('mmdet')
