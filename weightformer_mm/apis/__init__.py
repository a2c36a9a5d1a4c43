"""What Python code and the commands of ``weightformer-mm`` call. All raise UserError for bad input.

Arguments that mean the same in all of them:

- ``config``: path of a config or, where the type says so, a ``Config``; ``options``: ``KEY=VALUE`` changes.
- ``data_root``: folder that takes the place of the config's ``data_root``.
- ``checkpoint``: path of a checkpoint of exactly that model.
- ``launcher``: one of none, pytorch, slurm, mpi.
- ``score_thr``: detections below it are not drawn.
"""

from importlib import import_module
from typing import Any

from ..utils.translate import explain

_MODULES = {
    **dict.fromkeys(('init_model', 'inference'), 'predictor'),
    'Inferencer': 'inferencer',
    'train': 'training',
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import when it is used: other modules here need neither mmcv nor mmdet."""
    if name not in _MODULES:
        raise AttributeError(f'{__name__} has no {name}')
    try:
        return getattr(import_module(f'.{_MODULES[name]}', __name__), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(explain(error) or error, name=error.name) from error
