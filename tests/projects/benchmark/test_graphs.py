from __future__ import annotations

import pytest
import torch

from projects.benchmark.contenders import parse_contenders
from projects.benchmark.steps import Case


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_gradients_of_a_graph_are_those_of_the_step():
    plain, recorded = parse_contenders(['pyramid-micro+torch', 'pyramid-micro+torch+graph'])
    case, device = Case('train', 'float32', 2, 64, 96), torch.device('cuda')
    model = plain.build().to(device)
    step = plain.step(model, case, device)
    step.run()
    gradients = [parameter.grad for parameter in model.parameters()]
    step.reset()
    graph = recorded.step(model, case, device)
    for _ in range(2):  # recorded again after `release`
        graph.run()
        for parameter, gradient in zip(model.parameters(), gradients):
            torch.testing.assert_close(parameter.grad, gradient)
        graph.release()
