"""Fully sharded data parallel training through mmengine's FlexibleRunner.

mmengine's ``FSDPStrategy`` was written for torch 2.0 and for GPUs. What later versions of torch, several
processes without a GPU and checkpoints for everybody need besides is here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import BaseOptimWrapper, build_optim_wrapper
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
)
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from ...errors import UserError
from ...layers import AttentionBlock, DynamicBlock, StaticBlock

_WRAPPER = '_fsdp_wrapped_module.'


@FUNCTIONS.register_module()
def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """FSDP's ``auto_wrap_policy``: each block of a backbone is gathered and freed by itself."""
    blocks = {AttentionBlock, DynamicBlock, StaticBlock}
    return transformer_auto_wrap_policy(module, recurse, nonwrapped_numel, blocks)


@STRATEGIES.register_module()
class ShardedStrategy(FSDPStrategy):
    """``FSDPStrategy`` whose checkpoints are those of an unsharded run: any number of processes loads them.

    The optimizer is built from the whole model, so that rules by shape and name hold (a shard is
    one-dimensional whatever it is a part of), and gradients are clipped by their norm over all processes.

    Raises:
        UserError: one process alone, or an optimizer that needs whole matrices.
    """

    def __init__(self, **kwargs: Any) -> None:
        if not is_distributed() and (kwargs.get('env_kwargs') or {}).get('launcher') == 'none':
            raise UserError(
                'the config shards the model over several processes (strategy): start them with '
                'torchrun --nproc_per_node=N tools/train.py CONFIG --launcher pytorch'
            )
        super().__init__(**{**kwargs, 'state_dict_cfg': _whole_on_main_process()})

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        wrapper = dict(self.model_wrapper or {})
        if torch.device(get_device()).type == 'cpu':
            wrapper['device_id'] = torch.device('cpu')  # mmengine would name a GPU by its number
        self.model_wrapper = wrapper
        model = super()._wrap_model(model)
        units = len(FullyShardedDataParallel.fsdp_modules(model))
        self.logger.info(f'The model is sharded in {units} units')
        return model

    def build_whole_optim_wrapper(self, optim_wrapper: Any, model: nn.Module) -> BaseOptimWrapper:
        """The optimizer wrapper of a config for the model before it is sharded."""
        if not isinstance(optim_wrapper, dict):
            return optim_wrapper
        optimizer = optim_wrapper.get('optimizer') or {}
        if 'muon' in str(optimizer.get('opt', optimizer.get('type', ''))).lower():
            raise UserError(
                'config: Muon needs whole matrices and FSDP leaves a process parts of them; use AdamW'
            )
        if optim_wrapper.get('type') == 'AmpOptimWrapper':
            optim_wrapper.setdefault('use_fsdp', True)
        return build_optim_wrapper(model, optim_wrapper)

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: nn.Module | None = None
    ) -> BaseOptimWrapper:
        """Move an optimizer of the whole model, which has taken no step yet, to this process's shards."""
        shards = {plain_name(name): parameter for name, parameter in model.named_parameters()}
        for group in optim_wrapper.optimizer.param_groups:
            group['params'] = [shards[self.id_to_name[id(p)]] for p in group['params']]
        if getattr(optim_wrapper, 'clip_func', None) is torch.nn.utils.clip_grad_norm_:
            optim_wrapper.clip_func = partial(_clip_over_processes, model)
        return optim_wrapper

    def optim_state_dict(self) -> dict[str, Any]:
        """The state as the optimizer of an unsharded model has it; empty but on the main process."""
        wrapper = self.optim_wrapper
        named = FullyShardedDataParallel.optim_state_dict(self.model, wrapper.optimizer)
        if not is_main_process():
            return {}
        numbers = {name: number for number, name in enumerate(self._parameter_names())}
        own = {key: value for key, value in wrapper.state_dict().items() if key not in named}
        return {
            **own,  # of the wrapper: the scale of the loss, what the log says of the learning rate
            'state': {numbers[name]: state for name, state in named['state'].items()},
            'param_groups': [
                {**group, 'params': [numbers[name] for name in group['params']]}
                for group in named['param_groups']
            ],
        }

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of the optimizer of an unsharded model."""
        names = self._parameter_names()
        named = {
            'state': {names[number]: state for number, state in state_dict['state'].items()},
            'param_groups': [
                {**group, 'params': [names[number] for number in group['params']]}
                for group in state_dict['param_groups']
            ],
        }
        sharded = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=named
        )
        own = {key: value for key, value in state_dict.items() if key not in named}
        self.optim_wrapper.load_state_dict({**own, **sharded})

    def _parameter_names(self) -> list[str]:
        """Names in the order in which an optimizer numbers its parameters."""
        names = {p: plain_name(name) for name, p in self.model.named_parameters()}
        groups = self.optim_wrapper.optimizer.param_groups
        return [names[parameter] for group in groups for parameter in group['params']]


def refuse_averaging(hooks: Iterable[Hook]) -> None:
    """Raise UserError if one of the hooks averages weights: what it copies are shards."""
    for hook in hooks:
        if isinstance(hook, EMAHook):
            raise UserError(
                f'config: {type(hook).__name__} cannot average the weights of a sharded model; leave out the '
                'hook, or train without FSDP: --cfg-options runner_type=Runner strategy=None'
            )


def _whole_on_main_process() -> dict[str, Any]:
    """What a checkpoint holds. To offload from CPU to CPU would free the memory that is yet to be read."""
    options = {'rank0_only': True, 'offload_to_cpu': torch.device(get_device()).type != 'cpu'}
    return {
        'state_dict_type': 'FULL_STATE_DICT',
        'state_dict_config': FullStateDictConfig(**options),
        'optim_state_dict_config': FullOptimStateDictConfig(**options),
    }


def plain_name(name: str) -> str:
    """The name of a parameter in the model before it was wrapped."""
    return name.replace(_WRAPPER, '')


def _clip_over_processes(
    model: FullyShardedDataParallel,
    parameters: Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
) -> Tensor:
    """In place of ``clip_grad_norm_``, which would see the shards of this process alone."""
    return model.clip_grad_norm_(max_norm, norm_type)
