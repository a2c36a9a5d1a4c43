"""Whole networks on the kernels, under autocast: as exact as PyTorch alone, and all in half precision."""

from __future__ import annotations

import copy

import pytest
import torch

from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.layers import DynamicBlock, set_backend, set_dilation

NETWORKS = {
    'pyramid': lambda: PyramidWeightFormer(
        dict(embed_dims=(16, 24), depths=(3, 2)), out_indices=(0, 1)
    ),
    'attention': lambda: PyramidWeightFormer(
        dict(embed_dims=(32,), depths=(2,)), out_indices=0, token_mixer='attention'
    ),
    'isotropic': lambda: WeightFormer(dict(embed_dims=20, depth=3), 8, out_indices=(1, 2)),
}


def results(network, image, backend, autocast):
    """Outputs, and gradients of all parameters."""
    set_backend(network, backend)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=autocast):
        outputs = network(image)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(output.shape, generator=generator) for output in outputs]
    upstream = [
        grad.bfloat16().to(image.device).to(out.dtype) for grad, out in zip(upstream, outputs)
    ]
    torch.autograd.backward(outputs, upstream)
    named = {f'output {index}': output.detach() for index, output in enumerate(outputs)}
    return {**named, **{name: value.grad for name, value in network.named_parameters()}}


@pytest.mark.parametrize('name', NETWORKS)
def test_as_exact_as_pytorch(name, device):
    torch.manual_seed(0)
    network, image = NETWORKS[name]().to(device), torch.randn(2, 3, 37, 50).to(device)
    for parameter in network.parameters():
        if parameter.ndim > 1:  # so that the prediction matters
            torch.nn.init.normal_(parameter, std=0.1)
    exact = results(copy.deepcopy(network).double(), image.double(), 'torch', autocast=False)
    eager = results(copy.deepcopy(network), image, 'torch', autocast=True)
    found = results(copy.deepcopy(network), image, 'triton', autocast=True)
    for key, truth in exact.items():
        assert found[key].shape == truth.shape
        assert found[key].dtype == (torch.bfloat16 if key.startswith('output') else torch.float32)
        error, allowed = (float((x[key].double() - truth).norm()) for x in (found, eager))
        assert error <= 2 * allowed, (
            f'{key}: {error / float(truth.norm()):.2e}, not twice {allowed}'
        )


def changed(change):
    torch.manual_seed(0)
    network = PyramidWeightFormer(dict(embed_dims=(16, 24), depths=(3, 2)), out_indices=(0, 1))
    change(network)
    return network


def replace_block(network):
    network.stages[0].blocks[2] = torch.nn.Identity()


def share_a_larger_matrix(network):
    weight = network.stages[0].blocks[0].linear2.weight
    network.stages[0].blocks[0].linear2.weight = torch.nn.Parameter(
        torch.cat([weight] * 2, 1)[:, :64]
    )


def hook_a_norm(network):
    network.stages[0].blocks[1].norm1.register_forward_hook(lambda module, args, out: out + 0)


def leave_one_layer_to_pytorch(network):
    network.stages[0].blocks[1].linear1.backend = 'torch'


def dilate(network):
    set_dilation(network, 2)


CHANGES = [
    *(replace_block, share_a_larger_matrix, hook_a_norm, leave_one_layer_to_pytorch),
    dilate,
]


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('options', [{}, {'with_cp': True}, {'memory_efficient': True}], ids=str)
def test_changed_networks_train(change, options, device):
    network, image = changed(change).to(device), torch.randn(1, 3, 24, 20).to(device)
    vars(network).update(options)
    exact = results(copy.deepcopy(network).double(), image.double(), 'torch', autocast=False)
    network = copy.deepcopy(network)
    set_backend(network, 'triton')
    if change is leave_one_layer_to_pytorch:
        change(network)
    with torch.autocast(device.type, torch.bfloat16):
        outputs = network(image)
    sum(output.float().square().sum() for output in outputs).backward()
    for index, output in enumerate(outputs):  # half a dozen roundings to 8 bits
        truth = exact[f'output {index}']
        assert float((output.double() - truth).norm()) <= 0.03 * float(truth.norm())
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_block_of_no_images_has_gradients(device):
    block = DynamicBlock(16).to(device)
    set_backend(block, 'triton')
    with torch.autocast(device.type, torch.bfloat16):
        block(torch.zeros(0, 4, 4, 16, device=device, dtype=torch.bfloat16)).sum().backward()
    assert all(not parameter.grad.any() for parameter in block.parameters())
