"""The layers of a network use the backend that was chosen for it."""

from __future__ import annotations

import pytest
import torch

from weightformer_mm.layers import DynamicBlock, set_backend
from weightformer_mm.ops._shared import dispatch


def test_every_layer_of_a_block_gets_the_backend(monkeypatch):
    monkeypatch.setattr(dispatch, '_INTERPRETED', False)
    block = DynamicBlock(8)
    set_backend(block, 'triton')
    for layer in (block.dwc, block.dwc.predictor, block.linear1, block.linear1.predictor):
        assert layer.backend == 'triton'
    with pytest.raises(ValueError, match="backend 'triton'"):
        block(torch.zeros(1, 4, 4, 8))


def test_unknown_names_list_the_valid_ones():
    block = DynamicBlock(8)
    with pytest.raises(ValueError, match='auto, torch, triton'):
        set_backend(block, 'cuda')
    assert block.dwc.backend == 'auto'
