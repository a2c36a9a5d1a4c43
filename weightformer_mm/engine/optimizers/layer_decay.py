"""Layer-wise learning rate decay, for any backbone that knows the depth of its parameters."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.modules.batchnorm import _NormBase

from ...checkpoints.match import plain_name, unwrapped
from ...errors import ArgumentError
from ...utils.tables import text_table

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # _NormBase: batch and instance norm
_RULES = ('norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """A lower learning rate for earlier layers of the backbone, as introduced by BEiT.

    A parameter of the backbone gets ``lr * rate ** (num_layers - 1 - depth)``, where the backbone's
    ``get_layer_depth(name)`` returns ``(depth, num_layers)`` (mmpretrain's convention: 0 is the stem,
    ``num_layers - 1`` is what follows the last layer). Every other parameter gets ``lr``. The backbone is the
    module called ``backbone``, at any depth inside the model, or a model that itself has ``get_layer_depth``.
    Norms, biases and parameters with at most one dimension have no weight decay.

    Frozen parameters are left out; shared ones are included once. Parameters with equal learning rate and
    weight decay form one group. The first group has the largest learning rate, which mmengine logs as
    ``lr``. The groups are logged as a table.

    Args:
        optim_wrapper_cfg: config of the wrapper; its ``optimizer`` needs ``lr`` and ``weight_decay``.
        paramwise_cfg: ``layer_decay_rate``, above 0 and at most 1, is required. Optional are

            - ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult``: factors for the weight decay of
              norms, of biases and of other parameters with at most one dimension; 0 by default.
            - ``custom_keys``: ``{part of a name: dict(lr_mult=..., decay_mult=...)}``; the longest match
              counts. ``lr_mult`` multiplies the learning rate from layer decay; ``decay_mult`` multiplies
              the base weight decay and replaces the rules above.

    Raises:
        ValueError: an option is unknown, missing or out of range; when called, also if the model has no
            backbone, or one without ``get_layer_depth``.
    """

    def _validate_cfg(self) -> None:
        options = self.paramwise_cfg
        _check_names('paramwise_cfg', options, ('layer_decay_rate', 'custom_keys', *_RULES))
        for key, entry in (options.get('custom_keys') or {}).items():
            _check_names(f'paramwise_cfg.custom_keys[{key!r}]', entry, ('lr_mult', 'decay_mult'))
        rate = options.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ArgumentError(f'expected layer_decay_rate above 0 and at most 1, got {rate}')
        if self.base_lr is None or self.base_wd is None:
            raise ArgumentError('optim_wrapper.optimizer needs lr and weight_decay for layer decay')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        # a shard of FSDP has one dimension, whatever the parameter's own shape
        with FullyShardedDataParallel.summon_full_params(model, writeback=False):
            self._shapes = {parameter: parameter.shape for parameter in model.parameters()}
        return super().__call__(model)

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Append the parameter groups of ``module``, the whole model, to ``params``."""
        backbones = _find_backbones(unwrapped(module))
        layers = _layers(backbones)
        rate = self.paramwise_cfg['layer_decay_rate']
        custom = self.paramwise_cfg.get('custom_keys') or {}
        unused = set(custom)
        groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for name, parameter, owner in _named_parameters(unwrapped(module)):
            key = max((key for key in sorted(custom) if key in name), key=len, default=None)
            unused.discard(key)
            if not parameter.requires_grad:
                continue
            options = custom.get(key, {})
            depth, num_layers = layers.get(parameter, (0, 1))
            lr = self.base_lr * rate ** (num_layers - 1 - depth) * options.get('lr_mult', 1.0)
            decay = self.base_wd * self._decay_mult(name, parameter, owner, options)
            groups[lr, decay].append(parameter)
        ordered = sorted(groups.items(), reverse=True, key=lambda group: group[0])
        params += [{'params': p, 'lr': lr, 'weight_decay': decay} for (lr, decay), p in ordered]
        names = ', '.join(type(backbone).__name__ for backbone in backbones)
        rows = []
        for (lr, decay), group in ordered:
            count = sum(self._shapes[p].numel() for p in group)
            rows.append([f'{lr:.4e}', f'{decay:.4g}', str(len(group)), str(count)])
        table = text_table(['lr', 'weight decay', 'tensors', 'parameters'], rows)
        print_log(f'Layer decay {rate} of {names}:\n{table}', 'current')
        if unused:
            lacking = f'no parameter was left for {", ".join(sorted(unused))}'
            print_log(f'paramwise_cfg.custom_keys: {lacking}', 'current', level=logging.WARNING)

    def _decay_mult(
        self, name: str, parameter: nn.Parameter, owner: nn.Module, options: Mapping[str, float]
    ) -> float:
        if 'decay_mult' in options:
            return options['decay_mult']
        if isinstance(owner, _NORMS):
            rule = 'norm_decay_mult'
        elif name.rpartition('.')[2] == 'bias':
            rule = 'bias_decay_mult'
        elif len(self._shapes[parameter]) < 2:
            rule = 'flat_decay_mult'
        else:
            return 1.0
        return self.paramwise_cfg.get(rule, 0.0)


def _check_names(where: str, given: Any, known: tuple[str, ...]) -> None:
    if not isinstance(given, Mapping):
        raise ArgumentError(f'expected {where} to be a dict, got {given!r}')
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ArgumentError(
            f'{where}: unknown {", ".join(unknown)}; choose from {", ".join(known)}'
        )


def _find_backbones(model: nn.Module) -> list[nn.Module]:
    """The modules called ``backbone`` that are not inside one another; if none, the model itself."""
    paths = [name.split('.') for name, _ in model.named_modules()]
    names = ['.'.join(p) for p in paths if p[-1] == 'backbone' and p.count('backbone') == 1]
    backbones = [unwrapped(model.get_submodule(name)) for name in names] or [model]
    for backbone in backbones:
        if hasattr(backbone, 'get_layer_depth'):
            continue
        kind = type(backbone).__name__
        what = f'the backbone {kind} has no' if names else f'{kind} has neither a backbone nor'
        raise ArgumentError(
            f'layer decay: {what} get_layer_depth(name); use a backbone that has it (such as WeightFormer), '
            'or leave constructor and layer_decay_rate out of optim_wrapper'
        )
    return backbones


def _layers(backbones: list[nn.Module]) -> dict[nn.Parameter, tuple[int, int]]:
    """``(depth, num_layers)`` of each parameter of the backbones."""
    layers: dict[nn.Parameter, tuple[int, int]] = {}
    for backbone in backbones:
        for name, parameter, _ in _named_parameters(backbone):
            depth, num_layers = backbone.get_layer_depth(name)
            if not 0 <= depth < num_layers:
                raise ArgumentError(
                    f'get_layer_depth({name!r}) of {type(backbone).__name__} gave depth {depth} '
                    f'of {num_layers}'
                )
            layers.setdefault(parameter, (depth, num_layers))
    return layers


def _named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Name without wrappers, parameter, and owning module; a shared parameter once, under its first name."""
    for name, parameter in model.named_parameters():
        yield plain_name(name), parameter, model.get_submodule(name.rpartition('.')[0])
