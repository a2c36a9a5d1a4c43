"""What this package replaces in objects of other libraries: each with its reason, and what makes it needless.

Subclasses, hooks and registries come first; these are the places that none of them reaches. Three last:
`import_at_lookup`, `return_float32` and `clip_over_processes`. `replaced` makes the others, and takes them
back. While COCO annotations are read:

- ``COCO.__init__`` and ``COCO.createIndex`` of pycocotools, to check and name a file that is parsed once.
  mmdet's data sets and metrics build the class themselves.

While a cost is counted, on a copy of the model:

- ``forward`` of each module, to know whose operations run: a hook misses that mmseg calls ``head.forward``.
- The operators of ``mmcv._ext``, which PyTorch does not dispatch; needless once mmcv registers them with it.
- ``forward`` and ``mask_head`` of mmdet's heads: in ``mode='tensor'`` a cascade gives each proposal a mask
  in each stage.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from torch import nn


def import_at_lookup(module: str, *registries: Registry) -> None:
    """Import ``module`` when one of the registries is first asked; now, if ``mmengine.runner`` is loaded.

    Only mmengine itself gives its root registries ``locations``. Needless once others can add theirs.
    """
    for registry in registries:
        registry._locations.append(module)
    if 'mmengine.runner' in sys.modules or any(registry._imported for registry in registries):
        import_module(module)


def return_float32(module: nn.Module) -> None:
    """Replace ``module.forward`` by one whose bfloat16 outputs are cast to float32.

    A forward hook does not do: the heads of mmseg call ``self.forward`` past ``__call__``. Needless once the
    operators of mmcv (RoIAlign, NMS, deformable attention) accept bfloat16; those of 2.3.6 do not.
    """
    module.forward = _with_float32(module.forward)


def clip_over_processes(wrapper: OptimWrapper, model: nn.Module) -> None:
    """Replace ``wrapper.clip_func`` by that of a sharded ``model``, which sums over all processes.

    ``OptimWrapper`` sets the function in its constructor and takes none as an argument; torch's own would see
    the shards of this process alone. Needless once mmengine's FSDP strategy does it; 0.10.12 does not.
    """
    if getattr(wrapper, 'clip_func', None) is torch.nn.utils.clip_grad_norm_:
        wrapper.clip_func = lambda parameters, *args, **kwargs: model.clip_grad_norm_(
            *args, **kwargs
        )


@contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Give ``owner`` other attributes until the block ends."""
    own = {**vars(owner), **vars(owner).get('_modules', {})}
    try:
        for name, value in attributes.items():
            setattr(owner, name, value)
        yield
    finally:
        for name in attributes:
            if name in own:
                setattr(owner, name, own[name])
            else:  # its class has it
                delattr(owner, name)


def _with_float32(forward: Callable) -> Callable:
    @functools.wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _float32(forward(*args, **kwargs))

    return wrapper


def _float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if type(value) in (list, tuple):
        return type(value)(_float32(item) for item in value)
    return value
