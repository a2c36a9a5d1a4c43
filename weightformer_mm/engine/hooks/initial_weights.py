"""The weights that a training starts with, in place of those that mmengine would load leniently."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel

from ...checkpoints.match import unwrapped


class InitialWeightsHook(Hook):
    """Hand the runner, and the hooks that come after, a whole model with the weights that were read."""

    priority = 'HIGHEST'

    def __init__(self, weights: dict[str, Tensor]):
        self.weights = weights

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        # each process has only parts of a sharded model
        is_sharded = isinstance(runner.model, FullyShardedDataParallel)
        own = {} if is_sharded else unwrapped(runner.model).state_dict()
        checkpoint.clear()
        takes_all = self.weights.keys() <= own.keys()
        checkpoint['state_dict'] = {**own, **self.weights} if takes_all else self.weights
        self.weights = {}
