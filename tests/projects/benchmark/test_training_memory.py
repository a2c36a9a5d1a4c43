"""The memory that is worked out without values, against what a real step on the CPU holds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
import torch

from projects.benchmark.steps import Case
from projects.benchmark.training_memory import MEBI, training_memory
from projects.benchmark.whole_model import WholeModel, make_batch
from weightformer_mm.errors import UserError

CONFIGS = Path(__file__).parents[3] / 'configs'
SHAPES = str(CONFIGS / 'shapes/upernet_pyramid-weightformer-micro_shapes.py')
SMALL = str(next(CONFIGS.glob('cityscapes/*-small_*.py')))
MICRO = str(Path(__file__).parents[2] / 'configs/upernet_pyramid-weightformer-micro_cityscapes.py')
RECOMPUTED = 'model.backbone.with_cp=True'
SMALL_CARD = 24 * 1024  # MiB

pytest.importorskip('torch.distributed._tools.mem_tracker', reason='MemTracker came with torch 2.5')


@lru_cache  # a run takes long, whatever the size
def memory(side: int, *options: str) -> dict[str, float]:
    """That of a step on one square image with the small network."""
    return training_memory(MICRO, 1, (side, side), options)


def test_parameters_and_optimizer_state_are_known_exactly():
    found = memory(512)
    weights = sum(p.numel() * 4 for p in WholeModel(MICRO).build().parameters()) / MEBI
    assert found['Parameter'] == pytest.approx(weights, rel=0.02)  # blocks of 512 bytes
    assert found['Optstate'] == pytest.approx(2 * weights, rel=0.02)


def test_activations_are_proportional_to_the_pixels():
    one, four = (memory(side)['Activation'] for side in (512, 1024))
    assert four / one == pytest.approx(4, rel=0.02)  # predicted weights do not grow


def test_recomputation_saves_memory():
    kept, efficient, recomputed = (
        memory(512, *options)['Total']
        for options in (
            (),
            ('model.backbone.memory_efficient=True',),
            (RECOMPUTED,),
        )
    )
    assert recomputed < efficient < kept


def test_the_larger_network_at_full_size_fits_a_card_of_24_gb():
    found = training_memory(SMALL, batch=1)
    assert found['Total'] < 0.8 * SMALL_CARD


@pytest.mark.parametrize(
    'config, arguments, message',
    [
        (SHAPES, (1, None), 'give --shape'),
        (SHAPES, (0, (64, 64)), 'positive'),
        (str(CONFIGS / 'shapes/pyramid-weightformer-micro_shapes.py'), (1, (64, 64)), 'mmseg only'),
        (
            str(next(CONFIGS.glob('ade20k/mask2former*.py'))),
            (1, (64, 64)),
            'cannot run without values',
        ),
    ],
)
def test_bad_input_is_one_clear_line(config, arguments, message):
    with pytest.raises(UserError, match=message):
        training_memory(config, *arguments)


def test_a_real_step_keeps_what_was_worked_out():
    """The tensors that autograd saved in a real step on the CPU, each storage once, in float32."""
    options = (RECOMPUTED, 'model.data_preprocessor.size=(512,512)')
    model = WholeModel(MICRO, options).build().train()
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    saved = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        data = model.data_preprocessor(
            make_batch('mmseg', Case('train', 'float32', 1, 512, 512)), True
        )
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    expected = memory(512, RECOMPUTED)['Activation']
    assert sum(saved.values()) / MEBI == pytest.approx(expected, rel=0.15)
    assert loss.requires_grad
