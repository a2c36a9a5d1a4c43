"""``load_from`` of a config: the weights that a training starts with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from mmengine.config import Config

from ..config.read import as_list, type_name
from ..errors import UserError
from .pretrained import PretrainedWeights


def initial_weights(cfg: Config) -> PretrainedWeights | None:
    """What ``load_from`` asks for, a path or a dict; None if the training starts from scratch or resumes.

    Of a dict only the path stays in ``cfg``.

    Raises:
        UserError: a dict with other keys.
    """
    load_from = cfg.get('load_from')
    if not load_from or cfg.get('resume'):
        return None
    if not isinstance(load_from, Mapping):
        return PretrainedWeights(str(load_from))
    known = [field.name for field in fields(PretrainedWeights)]
    if 'checkpoint' not in load_from or not set(load_from) <= set(known):
        raise UserError(
            'load_from: expected a path, or a dict with checkpoint and optionally '
            f'{" and ".join(known[1:])}; got {", ".join(load_from) or "nothing"}'
        )
    cfg.load_from = str(load_from['checkpoint'])
    allowed = {key: tuple(as_list(load_from.get(key))) for key in known[1:]}
    return PretrainedWeights(cfg.load_from, **allowed)


def load_from_path(cfg: Config) -> str | None:
    """The checkpoint that ``load_from`` names, in either form."""
    load_from = cfg.get('load_from')
    return load_from.get('checkpoint') if isinstance(load_from, Mapping) else load_from


def refuse_lenient_loading(cfg: Config) -> None:
    """Raise UserError if the model as a whole has pretrained weights in its ``init_cfg``.

    mmengine would load what fits and go on.
    """
    for init_cfg in as_list(cfg.model.get('init_cfg')):
        if init_cfg and type_name(init_cfg) in ('Pretrained', 'PretrainedInit'):
            raise UserError(
                f'model.init_cfg: mmengine would load what fits of {init_cfg.get("checkpoint")} and leave '
                'out the rest; give it as load_from, or as model.backbone.init_cfg'
            )
