"""Fully sharded training: what mmengine's strategy lacks on torch above 2.0 and on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.optim import BaseOptimWrapper, build_optim_wrapper
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch import nn
from torch.distributed import fsdp
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from ...checkpoints.match import plain_name
from ...errors import UserError
from ...layers import AttentionBlock, DynamicBlock, StaticBlock
from ...utils.patches import clip_over_processes


@FUNCTIONS.register_module()
def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """FSDP's ``auto_wrap_policy``: each block of a backbone is gathered and freed separately."""
    blocks = {AttentionBlock, DynamicBlock, StaticBlock}
    return transformer_auto_wrap_policy(module, recurse, nonwrapped_numel, blocks)


@STRATEGIES.register_module()
class ShardedStrategy(FSDPStrategy):
    """``FSDPStrategy`` whose checkpoints are those of an unsharded run, for any number of processes."""

    def __init__(self, **kwargs: Any) -> None:
        if not is_distributed() and (kwargs.get('env_kwargs') or {}).get('launcher') == 'none':
            raise UserError(
                'the config shards the model: use torchrun, as tools/dist_train.sh does'
            )
        self._is_cpu = torch.device(get_device()).type == 'cpu'
        # offloading from CPU to CPU would free memory that is still to be read
        options = {'rank0_only': True, 'offload_to_cpu': not self._is_cpu}
        whole = dict(
            state_dict_type='FULL_STATE_DICT',
            state_dict_config=fsdp.FullStateDictConfig(**options),
            optim_state_dict_config=fsdp.FullOptimStateDictConfig(**options),
        )
        super().__init__(**{**kwargs, 'state_dict_cfg': whole})

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        device = {'device_id': torch.device('cpu')} if self._is_cpu else {}  # else a GPU's number
        self.model_wrapper = {**(self.model_wrapper or {}), **device}
        if getattr(model.data_preprocessor, 'notes_sizes', False):
            # processes whose images have other numbers of sizes would gather parameters at different times
            model.data_preprocessor.notes_sizes = False
            self.logger.info('The model is sharded, so a batch is computed with its padding')
        model = super()._wrap_model(model)
        self.logger.info(f'The model is sharded in {len(FSDP.fsdp_modules(model))} units')
        return model

    def build_whole_optim_wrapper(self, optim_wrapper: Any, model: nn.Module) -> BaseOptimWrapper:
        """Build a config's optimizer wrapper before the model is sharded, as names and shapes matter."""
        if 'muon' in str(optim_wrapper).lower():
            raise UserError('config: Muon needs whole matrices, and FSDP splits them; use AdamW')
        if optim_wrapper.get('type') == 'AmpOptimWrapper':
            optim_wrapper.setdefault('use_fsdp', True)
        return build_optim_wrapper(model, optim_wrapper)

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module) -> BaseOptimWrapper:
        """Move the whole model's optimizer, which has taken no step yet, to this process's shards."""
        shards = {plain_name(name): parameter for name, parameter in model.named_parameters()}
        for group in optim_wrapper.optimizer.param_groups:
            group['params'] = [shards[self.id_to_name[id(p)]] for p in group['params']]
        clip_over_processes(optim_wrapper, model)
        return optim_wrapper

    def optim_state_dict(self) -> dict[str, Any]:
        """The state in the form of an unsharded model's optimizer; empty except on the main process."""
        named = FSDP.optim_state_dict(self.model, self.optim_wrapper.optimizer)
        if not is_main_process():
            return {}
        numbers = {name: number for number, name in enumerate(self._names())}
        return {**self.optim_wrapper.state_dict(), **_renamed(named, numbers)}

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of an unsharded model's optimizer."""
        named, wrapper = _renamed(state_dict, dict(enumerate(self._names()))), self.optim_wrapper
        sharded = FSDP.optim_state_dict_to_load(self.model, wrapper.optimizer, named)
        wrapper.load_state_dict({**state_dict, **sharded})

    def _names(self) -> list[str]:
        """Names of the parameters in the order in which the optimizer numbers them."""
        names = {p: plain_name(name) for name, p in self.model.named_parameters()}
        groups = self.optim_wrapper.optimizer.param_groups
        return [names[parameter] for group in groups for parameter in group['params']]


def _renamed(state: dict[str, Any], names: dict[Any, Any]) -> dict[str, Any]:
    groups = [{**g, 'params': [names[p] for p in g['params']]} for g in state['param_groups']]
    return {'state': {names[p]: v for p, v in state['state'].items()}, 'param_groups': groups}
