"""Pretrained weights for timm, loaded strictly and through `safe_load`, whatever timm's version would use.

timm itself is lenient as soon as the number of classes differs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.models import adapt_input_conv
from timm.models._builder import _resolve_pretrained_source

from ..checkpoints import hub
from ..checkpoints.causes import SHOWN, likeliest_cause
from ..checkpoints.match import compare, get_state_dict
from ..checkpoints.pretrained import PREFIX
from ..checkpoints.released import HEAD, rename_released
from ..checkpoints.sources import load_weights
from ..errors import UserError
from .classifier import ImageClassifier

_RGB = 3  # timm adapts the first convolution from this many channels to any number
# as timm takes them
_CONTAINERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')
_FILES = ('model.safetensors', 'pytorch_model.bin', 'pytorch_model.pth', 'model.pth')


def load_pretrained(model: ImageClassifier, config: Mapping[str, Any], cache_dir: Any) -> None:
    """Load the weights that timm would load for a model: either all of them, or none with an error.

    They may be released weights, or those of one of this package's classifiers or of a backbone alone. If
    the number of classes differs, the head stays as it is.

    Args:
        model: a newly built model.
        config: timm's ``pretrained_cfg``, which says where the weights are.
        cache_dir: a folder to use instead of the hub's.

    Raises:
        UserError: there are no weights, they cannot be read, or some are missing, unexpected or of another
            shape or kind; the message lists them all.
    """
    source, checkpoint = _read(config, cache_dir)
    weights = rename_released(get_state_dict(checkpoint, source, _CONTAINERS))
    if not any(name.startswith(PREFIX) for name in weights):
        weights = {n if n.startswith('head.') else f'{PREFIX}{n}': v for n, v in weights.items()}
    wanted = model.state_dict()
    if model.num_classes != config['num_classes']:
        for name in HEAD:
            weights.pop(name, None)
            wanted.pop(name, None)
    first = f'{config["first_conv"]}.weight'
    out, channels, *size = wanted[first].shape
    if first in weights and weights[first].shape == (out, _RGB, *size):
        weights[first] = adapt_input_conv(channels, weights[first])
    differences = compare(wanted, weights)
    if differences:
        inner = {n[len(PREFIX) :]: v for n, v in weights.items() if n.startswith(PREFIX)}
        cause = likeliest_cause(model.backbone, compare(model.backbone.state_dict(), inner))
        raise UserError(f'{source}: {cause}. Weights {differences.listed(SHOWN)}')
    model.load_state_dict(weights, strict=False)


def _read(config: Mapping[str, Any], cache_dir: Any) -> tuple[str, dict[str, Any]]:
    """The name of the weights in errors, and the checkpoint that holds them."""
    kind, place = _resolve_pretrained_source(config)
    if not kind:
        raise UserError(f'No pretrained weights exist for {config["architecture"]}')
    if kind == 'state_dict':
        return 'the given state_dict', place
    if kind == 'hf-hub':
        source, file = place if isinstance(place, (tuple, list)) else (place, None)
        return source, load_weights(_fetch(source, file, cache_dir))
    source = str(_file_in(place) if kind == 'local-dir' else place)
    return source, load_weights(source)


def _file_in(folder: str | os.PathLike) -> Path:
    """The weights file in a folder to which timm saved a model."""
    files = [Path(folder, name) for name in _FILES if Path(folder, name).is_file()]
    files += sorted(Path(folder).glob('*.safetensors')) + sorted(Path(folder).glob('*.pth'))
    if not files:
        raise UserError(f'{folder}: no file of weights in it, such as {_FILES[0]}')
    return files[0]


def _fetch(repository: str, file: str | None, cache_dir: Any) -> Path:
    """The weights file in a repository of the hub; preferably safetensors."""
    first, last = (
        _FILES[:2] if file is None else (str(Path(file).with_suffix('.safetensors')), file)
    )
    try:
        return hub.fetch(f'{hub.SCHEME}{repository}/{first}', cache_dir)
    except hub.NoSuchFile:
        return hub.fetch(f'{hub.SCHEME}{repository}/{last}', cache_dir)
