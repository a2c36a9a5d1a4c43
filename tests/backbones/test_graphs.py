"""Which forward passes run as CUDA graphs, and that a replay is a forward pass."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest
import torch

from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer, base
from weightformer_mm.layers import graphs

NETWORKS = {
    'pyramid': lambda: PyramidWeightFormer(
        dict(embed_dims=[8, 16], depths=[3, 3]), out_indices=(0, 1)
    ),
    'isotropic': lambda: WeightFormer(dict(embed_dims=16, depth=3), patch_size=4),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    network = NETWORKS[request.param]().eval()
    network.cuda_graph = True
    return network


@pytest.fixture
def recordings(monkeypatch):
    """In place of CUDA: a replay runs what was recorded, in the same memory. A list of the shapes."""
    made = []

    def record(run, device, reset=None):
        outputs = run()
        made.append(outputs[0].shape)

        class Graph:
            def replay(self):
                for output, new in zip(outputs, run()):
                    output.copy_(new)

        return Graph(), outputs

    monkeypatch.setattr(graphs, 'record', record)
    can_record = graphs.can_record

    class OnGPU:
        is_cuda = True

    monkeypatch.setattr(base, 'can_record', lambda network, image: can_record(network, OnGPU))
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    return made


def eager(network, image, **options):
    plain = copy.deepcopy(network)
    plain.cuda_graph = False
    return plain(image, **options)


def check(network, image, **options):
    with torch.no_grad():
        for output, right in zip(network(image, **options), eager(network, image, **options)):
            torch.testing.assert_close(output, right, rtol=0, atol=0)


def test_a_shape_is_recorded_once(network, recordings):
    for count, size in ((1, (8, 12)), (1, (8, 12)), (2, (9, 13)), (2, (8, 12))):
        check(network, torch.randn(2, 3, *size))
        assert len(recordings) == count
    first, second = torch.randn(2, 1, 3, 8, 12)
    with torch.no_grad():
        kept = network(first)
        copies = [output.clone() for output in kept]
        network(second)
    assert all(map(torch.equal, kept, copies))  # a later replay leaves them alone


def test_the_shape_that_was_used_longest_ago_is_forgotten(network, recordings):
    sizes = [(8, 8 + index) for index in range(graphs.MOST_GRAPHS)]
    for size in (*sizes, sizes[0], (20, 20), sizes[0]):
        check(network, torch.randn(1, 3, *size))
    assert len(recordings) == graphs.MOST_GRAPHS + 1
    check(network, torch.randn(1, 3, *sizes[1]))
    assert len(recordings) == graphs.MOST_GRAPHS + 2


def test_new_values_of_parameters_count(network, recordings):
    image = torch.randn(1, 3, 8, 12)
    check(network, image)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.data.mul_(1.5)
    check(network, image)
    assert len(recordings) == 1
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
    check(network, image)
    assert len(recordings) == 2


def test_autocast_has_graphs_of_its_own(network, recordings):
    image = torch.randn(1, 3, 8, 12)
    check(network, image)
    with torch.autocast('cpu', torch.bfloat16):
        check(network, image)
    check(network, image)
    assert len(recordings) == 2


def test_images_of_a_padded_batch_are_graphs_of_their_sizes(network, recordings):
    check(network, torch.randn(3, 3, 12, 16), sizes=[(12, 16), (8, 8), (12, 16)])
    assert len(recordings) == 2


def test_what_must_be_seen_is_not_replayed(network, recordings):
    image = torch.randn(1, 3, 8, 12)
    network(image)[0].sum().backward()
    network.train()
    with torch.no_grad():
        network(image)
    network.eval()
    seen = []
    handle = network.units[0].register_forward_hook(lambda *arguments: seen.append(1))
    with torch.no_grad():
        network(image)
        network.intermediates(image, -1)
    handle.remove()
    assert not recordings and len(seen) == 2


def test_on_a_cpu_nothing_changes(network, monkeypatch):
    monkeypatch.setattr(graphs, 'record', None)
    check(network, torch.randn(1, 3, 8, 12))


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_have_no_graphs(network, recordings, copied):
    image = torch.randn(1, 3, 8, 12)
    check(network, image)
    check(copied(network), image)
    assert len(recordings) == 2 and not network.state_dict().keys() & {'graphs'}


@pytest.mark.skipif(sys.version_info < (3, 11), reason='code objects have no qualified names')
@pytest.mark.parametrize('kind', [PyramidWeightFormer, WeightFormer])
def test_half_copies_are_made_within_the_graph(kind):
    # made outside, they would be gone when the graph reads them
    decorators, function = [], kind.forward
    while hasattr(function, '__wrapped__'):
        decorators.append(function.__code__.co_qualname.partition('.')[0])
        function = function.__wrapped__
    assert decorators == ['at_own_sizes', 'in_graphs', 'with_half_copies']


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_a_replay_is_a_forward_pass(network, dtype):
    network.cuda()
    with torch.no_grad(), torch.autocast('cuda', dtype, enabled=dtype is not None):
        for size in ((64, 96), (33, 51), (64, 96)):
            check(network, torch.randn(2, 3, *size, device='cuda'))
