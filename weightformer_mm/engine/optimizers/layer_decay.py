"""Layer-wise learning rate decay, for every backbone that knows the depth of its parameters."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.modules.batchnorm import _NormBase

from ...checkpoints.match import unwrapped

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # _NormBase: batch and instance norm
_RULES = ('norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult')
_OPTIONS = ('layer_decay_rate', 'custom_keys', *_RULES)
_CUSTOM_OPTIONS = ('lr_mult', 'decay_mult')
# parts of a parameter's name that FSDP, activation checkpointing and torch.compile put in
_WRAPPERS = ('_fsdp_wrapped_module', '_checkpoint_wrapped_module', '_orig_mod')


@dataclass
class _Group:
    """Parameters with one learning rate and one weight decay."""

    lr: float
    weight_decay: float
    parameters: list[nn.Parameter] = field(default_factory=list)
    elements: int = 0
    depths: set[int] = field(default_factory=set)
    outside: bool = False  # whether some are not of the backbone

    def row(self) -> str:
        """The group's line in the table."""
        where = [f'layer{"s" * (len(self.depths) > 1)} {_ranges(self.depths)}'] * bool(self.depths)
        where += ['outside the backbone'] * self.outside
        return (
            f'{self.lr:12.4e} {self.weight_decay:12.4g} {len(self.parameters):8} '
            f'{self.elements:12}  {", ".join(where)}'
        )


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """A lower learning rate for the earlier layers of the backbone, as BEiT introduced it.

    A parameter of the backbone gets ``lr * rate ** (num_layers - 1 - depth)``, where ``(depth, num_layers)``
    is what ``get_layer_depth(name)`` of the backbone says (mmpretrain's convention: 0 is the stem,
    ``num_layers - 1`` what follows the last layer); every other parameter gets ``lr``. The backbone is the
    module called ``backbone``, however deep inside the model, or a model that has ``get_layer_depth`` itself.
    There is no weight decay on norms, biases and parameters of one dimension or none.

    Frozen parameters are left out, shared ones come once. Parameters with equal learning rate and weight
    decay are one group; the first has the largest learning rate, which is the one that mmengine logs as
    ``lr``. The groups are logged as a table.

    Args:
        optim_wrapper_cfg: config of the optimizer wrapper; its ``optimizer`` needs ``lr`` and
            ``weight_decay``.
        paramwise_cfg: ``layer_decay_rate``, above 0 and at most 1, is required. Optional are

            - ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult``: factors of the weight decay of
              norms, of biases and of (other) parameters with at most one dimension; 0 by default.
            - ``custom_keys``: ``{part of a parameter's name: dict(lr_mult=..., decay_mult=...)}``, where the
              longest part that fits counts. ``lr_mult`` multiplies what layer decay gives; ``decay_mult``
              multiplies the base weight decay in place of the rules above, which hold where it is not given.

    Raises:
        ValueError: an option is unknown, missing or out of its range; when called, also: the model has no
            backbone, or one without ``get_layer_depth``.
    """

    def _validate_cfg(self) -> None:
        options = self.paramwise_cfg
        _check_names('paramwise_cfg', options, _OPTIONS)
        for key, entry in (options.get('custom_keys') or {}).items():
            _check_names(f'paramwise_cfg.custom_keys[{key!r}]', entry, _CUSTOM_OPTIONS)
        rate = options.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                f'expected paramwise_cfg.layer_decay_rate above 0 and at most 1, got {rate}'
            )
        if self.base_lr is None or self.base_wd is None:
            raise ValueError('optim_wrapper.optimizer needs lr and weight_decay for layer decay')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        with _full_parameters(model):  # a shard has one dimension whatever the parameter has
            self._shapes = {id(parameter): parameter.shape for parameter in model.parameters()}
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
        groups: dict[tuple[float, float], _Group] = {}
        for name, parameter, owner in _named_parameters(unwrapped(module)):
            key = max((key for key in sorted(custom) if key in name), key=len, default=None)
            unused.discard(key)
            if not parameter.requires_grad:
                continue
            options = custom.get(key, {})
            depth, num_layers = layers.get(id(parameter), (0, 1))
            lr = self.base_lr * rate ** (num_layers - 1 - depth) * options.get('lr_mult', 1.0)
            decay = self.base_wd * self._decay_mult(name, parameter, owner, options)
            group = groups.setdefault((lr, decay), _Group(lr, decay))
            group.parameters.append(parameter)
            group.elements += self._shapes[id(parameter)].numel()
            if id(parameter) in layers:
                group.depths.add(depth)
            else:
                group.outside = True
        ordered = [groups[key] for key in sorted(groups, reverse=True)]
        params += [
            {'params': group.parameters, 'lr': group.lr, 'weight_decay': group.weight_decay}
            for group in ordered
        ]
        self._log(backbones, ordered, unused)

    def _decay_mult(
        self, name: str, parameter: nn.Parameter, owner: nn.Module, options: Mapping[str, float]
    ) -> float:
        if 'decay_mult' in options:
            return options['decay_mult']
        if isinstance(owner, _NORMS):
            rule = 'norm_decay_mult'
        elif name.rpartition('.')[2] == 'bias':
            rule = 'bias_decay_mult'
        elif len(self._shapes[id(parameter)]) < 2:
            rule = 'flat_decay_mult'
        else:
            return 1.0
        return self.paramwise_cfg.get(rule, 0.0)

    def _log(self, backbones: list[nn.Module], groups: list[_Group], unused: set[str]) -> None:
        names = ', '.join(type(backbone).__name__ for backbone in backbones)
        rows = [
            f'Layer decay {self.paramwise_cfg["layer_decay_rate"]} of {names}:',
            f'{"lr":>12} {"weight decay":>12} {"tensors":>8} {"parameters":>12}  of',
            *(group.row() for group in groups),
        ]
        print_log('\n'.join(rows), 'current')
        if unused:
            listed = ', '.join(sorted(unused))
            print_log(
                f'paramwise_cfg.custom_keys: no parameter was left for {listed}',
                'current',
                level=logging.WARNING,
            )


def _check_names(where: str, given: Any, known: tuple[str, ...]) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f'expected {where} to be a dict, got {given!r}')
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(
            f'{where}: unknown {", ".join(unknown)}; LayerDecayOptimWrapperConstructor knows '
            f'{", ".join(known)}'
        )


def _full_parameters(model: nn.Module) -> AbstractContextManager:
    """A context in which the parameters have their whole shape, under FSDP too."""
    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        return FullyShardedDataParallel.summon_full_params(model, writeback=False)
    return nullcontext()


def _find_backbones(model: nn.Module) -> list[nn.Module]:
    """The modules called ``backbone``, without those inside of others; else the model itself.

    Raises:
        ValueError: there is none, or it has no ``get_layer_depth``.
    """
    names: list[str] = []
    for name, _ in model.named_modules():
        inside = any(name.startswith(f'{outer}.') for outer in names)
        if name.rpartition('.')[2] == 'backbone' and not inside:
            names.append(name)
    backbones = [unwrapped(model.get_submodule(name)) for name in names]
    if not backbones and not hasattr(model, 'get_layer_depth'):
        raise ValueError(
            f'layer decay: {type(model).__name__} has neither a backbone nor get_layer_depth(name); leave '
            'constructor and paramwise_cfg out of optim_wrapper'
        )
    for backbone in backbones:
        if not hasattr(backbone, 'get_layer_depth'):
            raise ValueError(
                f'layer decay: the backbone {type(backbone).__name__} has no get_layer_depth(name); take one '
                "that has (such as WeightFormer, PyramidWeightFormer, mmpretrain's VisionTransformer), add "
                'the method, or leave constructor and layer_decay_rate out of optim_wrapper'
            )
    return backbones or [model]


def _layers(backbones: list[nn.Module]) -> dict[int, tuple[int, int]]:
    """``(depth, num_layers)`` of the backbones' parameters, by their id."""
    layers: dict[int, tuple[int, int]] = {}
    for backbone in backbones:
        for name, parameter, _ in _named_parameters(backbone):
            depth, num_layers = backbone.get_layer_depth(name)
            if not 0 <= depth < num_layers:
                raise ValueError(
                    f'layer decay: get_layer_depth({name!r}) of {type(backbone).__name__} gave depth {depth} '
                    f'of {num_layers} layers; expected 0 to {num_layers - 1}'
                )
            layers.setdefault(id(parameter), (depth, num_layers))
    return layers


def _named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Name without wrappers, parameter, and the module that owns it; a shared parameter by its first name."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        parts = [part for part in prefix.split('.') if part and part not in _WRAPPERS]
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield '.'.join([*parts, name]), parameter, module


def _ranges(numbers: set[int]) -> str:
    """``{0, 1, 2, 5}`` as ``0-2, 5``."""
    runs: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(sorted(numbers)):
        runs[number - index].append(number)
    return ', '.join(
        str(run[0]) if len(run) == 1 else f'{run[0]}-{run[-1]}' for run in runs.values()
    )
