"""timm's optimizers, for use in configs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import timm.optim
import torch
from mmengine.registry import OPTIMIZERS

from ...errors import ArgumentError
from ...utils.patches import orthogonalize_in_float32


@OPTIMIZERS.register_module()
def TimmOptimizer(  # noqa: N802
    params: Iterable[torch.Tensor] | Iterable[dict[str, Any]], opt: str, **options: Any
) -> torch.optim.Optimizer:
    """Build an optimizer of timm: ``optimizer=dict(type='TimmOptimizer', opt='nmuon', lr=3e-3)``.

    Args:
        params: parameters, or parameter groups as the optimizer wrapper's constructor makes them: one per
            parameter, with the learning rate and weight decay that ``paramwise_cfg`` gives it. Groups with
            equal options are merged, since every group costs time in each step.
        opt: a name in ``timm.optim.list_optimizers()``.
        options: arguments of that optimizer, including ``lr`` and ``weight_decay``.

    Raises:
        ValueError: the installed timm has no optimizer of that name, or refuses its arguments.
    """
    orthogonalize_in_float32()
    try:
        return timm.optim.create_optimizer_v2(merge_groups(params), opt=opt, **options)
    except (AssertionError, ValueError) as error:  # timm before 1.0 asserts
        raise ArgumentError(f'optimizer {opt!r} of timm {timm.__version__}: {error}') from None


def merge_groups(
    params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
) -> list[torch.Tensor] | list[dict[str, Any]]:
    """Merge the parameter groups with equal options; plain parameters stay as they are."""
    params = list(params)
    if not all(isinstance(group, dict) for group in params):
        return params
    merged: dict[str, dict[str, Any]] = {}
    for group in params:
        members = group['params']
        options = {**group, 'params': []}
        joined = merged.setdefault(repr(options), options)
        joined['params'] += [members] if isinstance(members, torch.Tensor) else members
    return list(merged.values())
