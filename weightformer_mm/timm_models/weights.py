"""Pretrained weights for timm: read through the one door, whatever timm's version reads with, and strictly.

timm itself is lenient as soon as the number of classes differs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.models import resolve_pretrained_cfg
from timm.models._builder import _resolve_pretrained_source
from torch import Tensor, nn

from ..checkpoints import hub
from ..checkpoints.causes import SHOWN, likeliest_cause
from ..checkpoints.match import compare, get_state_dict
from ..checkpoints.pretrained import PREFIX
from ..checkpoints.released import HEAD, rename_released
from ..checkpoints.sources import load_weights
from ..errors import UserError
from .classifier import ImageClassifier

_RGB = 3  # timm adapts the first convolution from so many channels to any number
# as timm takes them
_CONTAINERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')
_FILES = ('model.safetensors', 'pytorch_model.bin', 'pytorch_model.pth', 'model.pth')


class Pretrained:
    """The weights that timm would load for a model, read by this package; a UserError if they cannot be.

    timm gets a ``pretrained_cfg`` that promises a state_dict, and the weights from its filter.

    Args:
        name: of the model.
        options: of the entry point; ``pretrained_cfg``, its overlay and ``cache_dir`` say where they are.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        places = ('pretrained_cfg', 'pretrained_cfg_overlay')
        config = resolve_pretrained_cfg(name, **{k: options[k] for k in places if k in options})
        config = config.to_dict()
        self.kind, place = _resolve_pretrained_source(config)
        self.own = {key: config.get(key) for key in ('state_dict', 'source')}
        self.source = str(config.get('file') or config.get('hf_hub_id') or config.get('url'))
        if self.kind == 'state_dict':
            self.source = 'the given state_dict'
        elif self.kind == 'local-dir':
            self.source = _file_in(place)
        if self.kind:
            checkpoint = _read(self.kind, place, self.source, options.get('cache_dir'))
            self.weights = get_state_dict(checkpoint, self.source, _CONTAINERS)

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the entry point with which timm reads nothing itself."""
        if not self.kind:  # timm says so
            return dict(options)
        overlay = {**(options.get('pretrained_cfg_overlay') or {}), 'source': ''}
        overlay['state_dict'] = {'read': True}
        return {**options, 'pretrained_cfg_overlay': overlay}

    def filter(self, state_dict: Mapping[str, Tensor], model: ImageClassifier) -> dict[str, Tensor]:
        """timm's ``pretrained_filter_fn``."""
        return match_weights(self.weights, model, self.source)

    def restore(self, model: nn.Module) -> None:
        """Let the model say where its weights come from, as timm would have."""
        if self.kind:
            model.pretrained_cfg = {**model.pretrained_cfg, **self.own}
            model.default_cfg = model.pretrained_cfg


def _file_in(folder: str | os.PathLike) -> str:
    """The file of weights in a folder that timm saved a model to."""
    files = [Path(folder, name) for name in _FILES if Path(folder, name).is_file()]
    files += sorted(Path(folder).glob('*.safetensors')) + sorted(Path(folder).glob('*.pth'))
    if not files:
        raise UserError(f'{folder}: no file of weights in it, such as {_FILES[0]}')
    return str(files[0])


def _read(kind: str, place: Any, source: str, cache_dir: Any) -> dict[str, Any]:
    if kind != 'hf-hub':
        return place if kind == 'state_dict' else load_weights(source)
    repository, file = place if isinstance(place, (tuple, list)) else (place, None)
    files = _FILES[:2] if file is None else (str(Path(file).with_suffix('.safetensors')), file)
    for name in dict.fromkeys(files):
        try:
            path = hub.fetch(f'{hub.SCHEME}{repository}/{name}', cache_dir)
        except hub.NoSuchFile:
            if name == files[-1]:
                raise
        else:
            break
    return load_weights(path)


def match_weights(
    state_dict: Mapping[str, Tensor], model: ImageClassifier, source: str
) -> dict[str, Tensor]:
    """The weights under the model's names, all and no others; without the head for another number of classes.

    Args:
        state_dict: released weights, or those of a classifier of this package, or of a backbone alone.
        model: just built, with the ``pretrained_cfg`` of these weights.
        source: what an error calls the weights.

    Raises:
        UserError: a weight is missing, unexpected or of another shape or kind; lists all of them.
    """
    weights = rename_released(state_dict)
    if not any(name.startswith(PREFIX) for name in weights):
        weights = {n if n.startswith('head.') else f'{PREFIX}{n}': v for n, v in weights.items()}
    wanted = model.state_dict()
    if model.num_classes != model.pretrained_cfg['num_classes']:
        for name in HEAD:
            weights.pop(name, None)
            wanted.pop(name, None)
    first_conv = f'{model.pretrained_cfg["first_conv"]}.weight'
    as_released = wanted[first_conv][:, :1].expand(-1, _RGB, -1, -1)
    if first_conv in weights and weights[first_conv].shape == as_released.shape:
        wanted[first_conv] = as_released
    differences = compare(wanted, weights)
    if differences:
        inner = {n[len(PREFIX) :]: v for n, v in weights.items() if n.startswith(PREFIX)}
        cause = likeliest_cause(model.backbone, compare(model.backbone.state_dict(), inner))
        raise UserError(f'{source}: {cause}. Weights {differences.listed(SHOWN)}')
    return weights
