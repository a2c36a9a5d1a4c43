"""What this package patches in other libraries' objects, why, and what would make each patch unnecessary.

Subclasses, hooks and registries are preferred; none of them reaches these places. Four patches stay in
place: `import_at_lookup`, `return_float32`, `clip_over_processes` and `orthogonalize_in_float32`. `replaced`
applies the others and undoes them. While COCO annotations are read:

- ``COCO.__init__`` of pycocotools, to check and name a file that is parsed once. mmdet's data sets and
  metrics build the class themselves.

While a hook of mmdet or mmseg draws:

- ``get``, or ``fileio``, and ``mmcv`` in its module, with which it reads the image by itself; unnecessary
  once one of its methods does.

While a cost is counted, on a copy of the model:

- ``forward`` of each module, to know whose operations run: a hook would miss mmseg's calls of
  ``head.forward``.
- The operators of ``mmcv._ext``, which PyTorch does not dispatch; unnecessary once mmcv registers them.
- ``forward`` and ``mask_head`` of mmdet's heads: in ``mode='tensor'`` a cascade predicts a mask for each
  proposal in each stage.
"""

from __future__ import annotations

import functools
import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:  # a cost is counted without mmengine
    from mmengine.optim import OptimWrapper
    from mmengine.registry import Registry


def import_at_lookup(module: str, *registries: Registry) -> None:
    """Import ``module`` at the registries' first lookup, or now if ``mmengine.runner`` is already loaded.

    Only mmengine itself sets its root registries' ``locations``. Unnecessary once others can add theirs.
    """
    for registry in registries:
        registry._locations.append(module)
    if 'mmengine.runner' in sys.modules or any(registry._imported for registry in registries):
        import_module(module)


def return_float32(module: nn.Module) -> None:
    """Replace ``module.forward`` with one whose outputs in half precision are cast to float32.

    A forward hook is not enough: mmseg's heads call ``self.forward``, bypassing ``__call__``. Unnecessary
    once mmcv's operators (RoIAlign, NMS, deformable attention) accept bfloat16; those of 2.3.6 do not.
    """
    module.forward = _with_float32(module.forward)


def clip_over_processes(wrapper: OptimWrapper, model: nn.Module) -> None:
    """Replace ``wrapper.clip_func`` with that of a sharded ``model``, which sums over all processes.

    ``OptimWrapper`` sets the function in its constructor and takes none as an argument; torch's own would see
    only this process's shards. Unnecessary once mmengine's FSDP strategy does it; 0.10.12 does not.
    """
    if getattr(wrapper, 'clip_func', None) is torch.nn.utils.clip_grad_norm_:
        wrapper.clip_func = lambda parameters, *args, **kwargs: model.clip_grad_norm_(
            *args, **kwargs
        )


def orthogonalize_in_float32() -> None:
    """Let timm's Muon compute in float32 on a CPU without bfloat16 instructions (AVX2 alone).

    There, PyTorch's bfloat16 product is some thirty times slower than that of float32. ``Muon`` has no
    argument for the dtype. Unnecessary once it has; timm 1.0.31 has none.
    """
    muon = sys.modules.get('timm.optim.muon')  # not in every timm
    original = getattr(muon, 'zeropower_via_newtonschulz', None)
    if original is None or hasattr(original, '__wrapped__') or _cpu_multiplies_bfloat16():
        return

    @functools.wraps(original)
    def orthogonalize(G: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: N803
        if G.device.type == 'cpu':
            kwargs['dtype'] = torch.float32
        return original(G, *args, **kwargs)

    muon.zeropower_via_newtonschulz = orthogonalize


def _cpu_multiplies_bfloat16() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


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
            else:  # the class has it
                delattr(owner, name)


def _with_float32(forward: Callable) -> Callable:
    @functools.wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _float32(forward(*args, **kwargs))

    return wrapper


def _float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if type(value) in (list, tuple):
        return type(value)(_float32(item) for item in value)
    return value


@contextmanager
def quiet() -> Iterator[None]:
    """What the libraries print and log in the block, up to warnings, is not seen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
