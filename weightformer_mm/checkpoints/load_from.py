"""``load_from``: the weights that a training begins with, strictly. mmengine would only warn and go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..config.read import type_name
from ..errors import UserError
from .check import converts, get_state_dict, is_counter, unwrapped
from .differences import compare, usable
from .pretrained import CONTAINERS, PREFIX, SHOWN, log_left_out, matching_weights
from .sources import load_weights

_SHARED_PARTS = {'backbone', 'neck'}  # parts that models of different kinds have in common


@dataclass(frozen=True)
class InitialWeights:
    """What ``load_from`` of a config asks for: a path or URL, or a dict of these fields.

    Attributes:
        checkpoint: as for ``init_cfg=dict(type='Pretrained', checkpoint=...)``.
        allow_missing: shell patterns of the model's weights that may keep their initial values.
        allow_unexpected: shell patterns of the checkpoint's weights that may be left out.
    """

    checkpoint: str
    allow_missing: tuple[str, ...] = ()
    allow_unexpected: tuple[str, ...] = ()

    @classmethod
    def of_config(cls, cfg: Config) -> InitialWeights | None:
        """What ``load_from`` says, which is left with the path alone; None if the training begins anew.

        Raises:
            UserError: a dict with other keys.
        """
        load_from = cfg.get('load_from')
        if not load_from or cfg.get('resume'):
            return None
        if not isinstance(load_from, Mapping):
            return cls(str(load_from))
        known = [field.name for field in fields(cls)]
        if 'checkpoint' not in load_from or not set(load_from) <= set(known):
            raise UserError(
                f'load_from: expected a path or a dict with checkpoint and, where wanted, '
                f'{" and ".join(known[1:])}; got {", ".join(load_from) or "nothing"}'
            )
        lists = {
            key: (value,) if isinstance(value, str) else tuple(value)
            for key, value in load_from.items()
            if key != 'checkpoint'
        }
        cfg.load_from = str(load_from['checkpoint'])
        return cls(cfg.load_from, **lists)

    def read(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights that the checkpoint has for ``model``, under the model's own names.

        A checkpoint of the same kind of model has all of them. From one of a bare backbone, of a classifier
        or of a model with other heads the backbone's are taken, and the log says so.

        Raises:
            UserError: the weights cannot be had, or do not fit; lists missing, unexpected and wrongly
                shaped ones.
        """
        checkpoint = load_weights(self.checkpoint)
        model = unwrapped(model)
        own = model.state_dict()
        found = get_state_dict(checkpoint, self.checkpoint, CONTAINERS)
        if _is_of_another_kind(own, found):
            return self._for_backbone(model, checkpoint)
        counters = [name for name in own if is_counter(name) and name not in found]
        differences = compare(own, found, (*self.allow_missing, *counters), self.allow_unexpected)
        if not differences:
            weights = usable(own, found)
            log_left_out(self.checkpoint, own, found, weights)
            return weights
        if converts(model, differences):
            return found
        raise UserError(
            f'load_from={self.checkpoint}: weights {differences.listed(SHOWN)}. What may differ is said by '
            'load_from=dict(checkpoint=..., allow_missing=[patterns], allow_unexpected=[patterns]), with '
            '_delete_=True in it where a _base_ has load_from; to take '
            "the backbone alone: model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
        )

    def _for_backbone(self, model: nn.Module, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
        backbone = getattr(model, 'backbone', None)
        if backbone is None:
            raise UserError(
                f'load_from={self.checkpoint}: these are not weights of a {type(model).__name__}, '
                'and it has no backbone that they could be of'
            )
        allow_missing, allow_unexpected = (
            [pattern[pattern.startswith(PREFIX) * len(PREFIX) :] for pattern in patterns]
            for patterns in (self.allow_missing, self.allow_unexpected)
        )
        weights = matching_weights(
            backbone, checkpoint, self.checkpoint, allow_missing, allow_unexpected
        )
        print_log(
            f'{self.checkpoint}: weights of the backbone alone; the rest of the model begins anew',
            'current',
        )
        return {f'{PREFIX}{name}': tensor for name, tensor in weights.items()}


def load_from_path(cfg: Config) -> str | None:
    """The checkpoint that ``load_from`` names, in either form."""
    load_from = cfg.get('load_from')
    return load_from.get('checkpoint') if isinstance(load_from, Mapping) else load_from


def refuse_lenient_loading(cfg: Config) -> None:
    """Raise UserError if the model as a whole has pretrained weights in its ``init_cfg``.

    mmengine would load what fits of them and go on.
    """
    given = cfg.model.get('init_cfg')
    for init_cfg in given if isinstance(given, (list, tuple)) else [given]:
        if init_cfg and type_name(init_cfg) in ('Pretrained', 'PretrainedInit'):
            raise UserError(
                f'model.init_cfg: mmengine would load what fits of {init_cfg.get("checkpoint")} and leave '
                'out the rest; give it as load_from, or as model.backbone.init_cfg'
            )


class InitialWeightsHook(Hook):
    """Hand the runner, and the hooks that come after, a whole model with the weights that were read."""

    priority = 'HIGHEST'

    def __init__(self, weights: dict[str, Tensor]):
        self.weights = weights

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        # of a sharded model each process has parts alone
        is_sharded = isinstance(runner.model, FullyShardedDataParallel)
        own = {} if is_sharded else unwrapped(runner.model).state_dict()
        checkpoint.clear()
        takes_all = self.weights.keys() <= own.keys()
        checkpoint['state_dict'] = {**own, **self.weights} if takes_all else self.weights
        self.weights = {}


def _is_of_another_kind(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint is of a bare backbone, or has heads and none of the model's."""
    parts, theirs = ({name.split('.')[0] for name in names} for names in (own, found))
    if PREFIX[:-1] not in theirs:
        return PREFIX[:-1] in parts or not parts & theirs
    return bool(theirs - parts) and not (parts & theirs) - _SHARED_PARTS
