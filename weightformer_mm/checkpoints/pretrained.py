"""Strict loading of pretrained weights: ``init_cfg`` of a backbone and ``load_from`` of a config.

Released names are recognised, and nothing is left out silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from timm.layers import resample_patch_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ..config.read import as_list, type_name
from ..errors import UserError
from .causes import SHOWN, likeliest_cause
from .match import compare, compare_with_model, converts, get_state_dict, unwrapped, usable
from .released import rename_released
from .sources import load_weights

PREFIX = 'backbone.'
_HEAD = 'head.'
_RGB = 3  # timm adapts from this many channels to any number
_ALLOWING = 'To allow differences: allow_missing=[patterns], allow_unexpected=[patterns]'
_SHARED_PARTS = {'backbone', 'neck'}  # parts that different kinds of models have in common


def load_pretrained(
    backbone: nn.Module,
    checkpoint: str,
    allow_missing: str | Sequence[str] = (),
    allow_unexpected: str | Sequence[str] = (),
    prefix: str = PREFIX,
    map_location: Any = 'cpu',
    adapt_input: bool = False,
) -> None:
    """Load weights into ``backbone``: either all of them, or none with an error.

    Args:
        backbone: `WeightFormer` or `PyramidWeightFormer`.
        checkpoint: path of a ``.pth`` or ``.safetensors`` file, ``http(s)://`` or
            ``hf://owner/name[@revision][/file]``. It may hold released weights or ours, be a training
            checkpoint (weights under ``model`` or ``state_dict``, names with ``module.`` or
            ``_orig_mod.``), or be a whole detector or segmentor, whose ``backbone.`` part is taken. A
            classification head is left out, and the log says so.
        allow_missing: shell patterns of the backbone's names that may keep their initial values, such as
            ``'norm3.*'``.
        allow_unexpected: shell patterns of the checkpoint's names that may be left out.
        prefix: where the backbone is in a whole model.
        map_location: as in mmengine's ``Pretrained``; the weights are copied to the backbone's device.
        adapt_input: adapt the first convolution as timm does, from RGB to the backbone's ``in_channels`` and
            to its ``patch_size``; the log says so.

    Raises:
        UserError: the checkpoint cannot be read, or its weights are not exactly those of the backbone. The
            message lists missing, unexpected and wrongly shaped weights and the likeliest cause.
    """
    request = PretrainedWeights(checkpoint, as_list(allow_missing), as_list(allow_unexpected))
    found = get_state_dict(load_weights(checkpoint, map_location), checkpoint)
    backbone.load_state_dict(
        request.for_backbone(backbone, found, prefix, adapt_input), strict=False
    )


@dataclass(frozen=True)
class PretrainedWeights:
    """Which weights are wanted, and what may differ; for the attributes see `load_pretrained`."""

    checkpoint: str
    allow_missing: Sequence[str] = ()
    allow_unexpected: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ('allow_missing', 'allow_unexpected'):
            if not all(isinstance(pattern, str) for pattern in getattr(self, name)):
                raise UserError(f'{name}: expected patterns of names, got {getattr(self, name)}')

    def for_backbone(
        self,
        backbone: nn.Module,
        weights: Mapping[str, Tensor],
        prefix: str = PREFIX,
        adapt_input: bool = False,
    ) -> dict[str, Tensor]:
        """The backbone's part of a checkpoint's ``weights``, under the backbone's own names.

        Raises UserError as `load_pretrained` does.
        """
        prefix = prefix.rstrip('.') + '.'
        inner = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
        found = inner or dict(weights)
        if hasattr(backbone, 'describe_sizes'):
            found = rename_released(found)
        head = sorted(name for name in found if name.startswith(_HEAD))
        if head:
            found = {name: found[name] for name in found if name not in head}
            left = ', '.join(head)
            print_log(f'{self.checkpoint}: left out the classification head ({left})', 'current')
        own = backbone.state_dict()
        if adapt_input:
            found = self._adapted(f'{backbone.first_conv}.weight', own, found)
        differences = compare(own, found, self.allow_missing, self.allow_unexpected)
        if differences:
            raise UserError(
                f'{self.checkpoint}: {likeliest_cause(backbone, differences)}. Weights '
                f'{differences.listed(SHOWN)}. {_ALLOWING}'
            )
        return usable(own, found, self.checkpoint)

    def _adapted(
        self, name: str, own: Mapping[str, Tensor], found: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The weights with the kernel ``name`` at the backbone's channels and size, as timm adapts it."""
        kernel = found.get(name)
        if kernel is None or kernel.dim() != 4 or kernel.shape == own[name].shape:
            return found
        _, channels, *size = own[name].shape
        if list(kernel.shape[2:]) != size:
            kernel = resample_patch_embed(kernel, size)
        if kernel.shape[1] == _RGB != channels:
            kernel = adapt_input_conv(channels, kernel)
        before, after = tuple(found[name].shape), tuple(kernel.shape)
        print_log(f'{self.checkpoint}: adapted {name} from {before} to {after}', 'current')
        return {**found, name: kernel}

    def for_model(self, model: nn.Module) -> dict[str, Tensor]:
        """Read the checkpoint and return its weights for a whole model, under the model's own names.

        A checkpoint of the same kind of model must have all of them. From a bare backbone, a classifier or a
        model with other heads, only the backbone's weights are taken, and the log says so. Raises UserError
        as `load_pretrained` does.
        """
        found = get_state_dict(load_weights(self.checkpoint), self.checkpoint)
        model = unwrapped(model)
        own = model.state_dict()
        if _is_of_another_kind(own, found):
            return self._for_backbone_of(model, found)
        differences = compare_with_model(model, found, self.allow_missing, self.allow_unexpected)
        if not differences:
            return usable(own, found, self.checkpoint)
        if converts(model, differences):
            return found
        raise UserError(
            f'load_from={self.checkpoint}: weights {differences.listed(SHOWN)}. {_ALLOWING}, in '
            'load_from=dict(checkpoint=...), with _delete_=True where a _base_ has load_from; to take '
            "the backbone alone: model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
        )

    def _for_backbone_of(self, model: nn.Module, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        backbone = getattr(model, 'backbone', None)
        if backbone is None:
            raise UserError(
                f'load_from={self.checkpoint}: these are not weights of a {type(model).__name__}, '
                'which has no backbone that could take them'
            )
        allowed = (
            [name.removeprefix(PREFIX) for name in names]
            for names in (self.allow_missing, self.allow_unexpected)
        )
        weights = PretrainedWeights(self.checkpoint, *allowed).for_backbone(backbone, found)
        print_log(
            f'{self.checkpoint}: only the weights of the backbone are taken; the rest of the model starts '
            'from its initial weights',
            'current',
        )
        return {f'{PREFIX}{name}': tensor for name, tensor in weights.items()}


def initial_weights(cfg: Config) -> PretrainedWeights | None:
    """What ``load_from``, a path or a dict, asks for; None if the training starts from scratch or resumes.

    If it is a dict, ``cfg`` keeps only its path; a dict with unknown keys raises UserError.
    """
    load_from = cfg.get('load_from')
    if not load_from or cfg.get('resume'):
        return None
    given = dict(load_from) if isinstance(load_from, Mapping) else {'checkpoint': load_from}
    path = given.pop('checkpoint', None)
    allowed = [as_list(given.pop(key, None)) for key in ('allow_missing', 'allow_unexpected')]
    if path is None or given:
        raise UserError(
            'load_from: expected a path, or a dict with checkpoint and optionally allow_missing and '
            f'allow_unexpected; got {", ".join(load_from)}'
        )
    cfg.load_from = str(path)
    return PretrainedWeights(cfg.load_from, *allowed)


def load_from_path(cfg: Config) -> str | None:
    """The checkpoint that ``load_from`` names, in either form."""
    load_from = cfg.get('load_from')
    return load_from.get('checkpoint') if isinstance(load_from, Mapping) else load_from


def refuse_lenient_loading(cfg: Config) -> None:
    """Raise UserError if the whole model has pretrained weights in its ``init_cfg``.

    mmengine would load what fits and go on without the rest.
    """
    for init_cfg in as_list(cfg.model.get('init_cfg')):
        if init_cfg and type_name(init_cfg) in ('Pretrained', 'PretrainedInit'):
            raise UserError(
                f'model.init_cfg: mmengine would load what fits of {init_cfg.get("checkpoint")} and leave '
                'out the rest; give it as load_from, or as model.backbone.init_cfg'
            )


def _is_of_another_kind(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint belongs to a bare backbone, or has heads but none of the model's."""
    parts, theirs = ({name.split('.')[0] for name in names} for names in (own, found))
    if 'backbone' not in theirs:
        return 'backbone' in parts or not parts & theirs
    return bool(theirs - parts) and not (parts & theirs) - _SHARED_PARTS
