"""Are the OpenMMLab libraries there that a config asks for?"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from ..errors import UserError

INSTALL_HINT = (
    "pip install 'weightformer_mm[onedl]' (maintained builds) "
    "or 'weightformer_mm[openmmlab]' (official builds)"
)
OPERATORS_HINT = (
    'mmcv-lite does not do: install mmcv or onedl-mmcv, built after torch '
    '(pip install --no-build-isolation onedl-mmcv)'
)
PRETRAIN_HINT = (
    "pip install 'weightformer_mm[pretrain]' (maintained builds) "
    "or 'mmpretrain>=1.0' (official builds)"
)
# libraries whose heads need mmcv's compiled operators
_NEED_OPERATORS = ('mmdet', 'mmseg')


def install_hint(library: str) -> str:
    """How to install one of the OpenMMLab libraries."""
    return PRETRAIN_HINT if library == 'mmpretrain' else INSTALL_HINT


def require_libraries(scope: str) -> None:
    """Raise UserError unless the library ``scope`` is installed and mmcv has its operators.

    mmdet and mmseg import without the operators and fail at the first batch; better to say it now.
    """
    if find_spec(scope) is None:
        raise UserError(
            f'{scope}, which the config needs (default_scope), is not installed; {install_hint(scope)}'
        )
    if scope in _NEED_OPERATORS:
        try:
            import_module('mmcv.ops')
        except ImportError as error:
            raise UserError(
                f'mmcv has no compiled operators ({error}); {OPERATORS_HINT}'
            ) from error
