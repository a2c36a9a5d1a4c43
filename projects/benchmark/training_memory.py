"""Memory of a training step of a segmentor, calculated without a GPU and without computing anything.

The model, its losses, its gradients and its optimizer run on PyTorch's meta device, where tensors have sizes
but no values; PyTorch's own `MemTracker` adds up what is alive. This is the code that a GPU runs without
Triton, in float32. It leaves out workspaces of the GPU's libraries, fragmentation and the CUDA context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from weightformer_mm.config.read import load_config, require
from weightformer_mm.errors import UserError

from .steps import Case
from .whole_model import WholeModel, make_batch, quiet

MEBI = 2**20


def training_memory(
    config: str, batch: int, shape: tuple[int, int] | None = None, options: Sequence[str] = ()
) -> dict[str, float]:
    """Peak memory of a training step once the optimizer has its state.

    Args:
        config: path of a config of mmseg.
        batch: images of a step.
        shape: height and width of the images in pixels; default: those to which the config's data
            preprocessor pads.
        options: ``KEY=VALUE`` changes to the config.

    Returns:
        MiB (2^20 bytes) at the peak: ``total`` and its parts, named as by ``MemTracker``.

    Raises:
        UserError: bad input, a config of another library, or a model whose work depends on values.
    """
    cfg = load_config(config, options)
    require(cfg, ('model', 'optim_wrapper'), 'training')
    if cfg.get('default_scope') != 'mmseg':
        raise UserError(f'{config}: training memory is calculated for segmentors of mmseg only')
    padded = cfg.model.data_preprocessor.get('size')
    shape = tuple(shape or padded or ()) or None
    if shape is None:
        raise UserError(f'{config} has no model.data_preprocessor.size; give --shape HEIGHT WIDTH')
    if min(batch, *shape) < 1:
        raise UserError(f'expected positive numbers, got --batch {batch}, --shape {shape}')
    tracker = _tracker()
    if padded is not None:  # or smaller images would be padded to the config's size
        options = [*options, f'model.data_preprocessor.size=({shape[0]},{shape[1]})']
    model = WholeModel(config, tuple(options)).build().to('meta').train()
    with quiet():
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    data = make_batch('mmseg', Case('train', 'float32', batch, *shape))
    with _without_accuracy():
        try:
            _step(model, optimizer, data)  # the optimizer makes its state
            tracker.track_external(model, optimizer)
            with tracker:
                _step(model, optimizer, data)
        except (NotImplementedError, RuntimeError) as error:
            raise UserError(
                f'{config}: {type(model.decode_head).__name__} cannot run without values: {error}'
            ) from error
    peak = tracker.get_tracker_snapshot('peak')[torch.device('meta')]
    parts = {getattr(kind, 'value', str(kind)): size / MEBI for kind, size in peak.items()}
    return {name: size for name, size in parts.items() if size}


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, data: dict) -> None:
    inputs = model.data_preprocessor(data, training=True)
    loss, _ = model.parse_losses(model(**inputs, mode='loss'))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _tracker():
    try:
        tools = import_module('torch.distributed._tools.mem_tracker')
    except ImportError as error:
        raise UserError(
            f'torch {torch.__version__} has no MemTracker, which this needs; use a newer torch'
        ) from error
    return tools.MemTracker()


@contextmanager
def _without_accuracy() -> Iterator[None]:
    """mmseg's heads report the accuracy beside the loss; it selects pixels by value, and has no gradient."""
    heads = import_module('mmseg.models.decode_heads.decode_head')
    accuracy, heads.accuracy = heads.accuracy, lambda *args, **kwargs: torch.zeros(1)
    try:
        yield
    finally:
        heads.accuracy = accuracy
