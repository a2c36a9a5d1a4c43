"""Are the OpenMMLab libraries installed that a config needs?"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from ..errors import UserError

OPERATORS_HINT = (
    'mmcv-lite is not enough: install mmcv or onedl-mmcv, built after torch '
    '(pip install --no-build-isolation onedl-mmcv)'
)


def install_hint(library: str) -> str:
    """How to install one of the OpenMMLab libraries."""
    extra, official = 'onedl', "'weightformer_mm[openmmlab]'"
    if library == 'mmpretrain':
        extra, official = 'pretrain', "'mmpretrain>=1.0'"
    return f"pip install 'weightformer_mm[{extra}]' (maintained builds) or {official} (official builds)"


def require_libraries(scope: str) -> None:
    """Raise UserError unless the library ``scope`` is installed and mmcv has its operators.

    Without the operators mmdet and mmseg can be imported, and fail at the first batch.
    """
    if find_spec(scope) is None:
        raise UserError(
            f'{scope}, which the config needs (default_scope), is not installed; {install_hint(scope)}'
        )
    if scope in ('mmdet', 'mmseg'):
        try:
            import_module('mmcv.ops')
        except ImportError as error:
            raise UserError(
                f'mmcv has no compiled operators ({error}); {OPERATORS_HINT}'
            ) from error
