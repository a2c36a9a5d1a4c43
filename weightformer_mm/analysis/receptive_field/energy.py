"""Gradient of the central output position with respect to the pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHARES = (0.25, 0.5, 0.75)  # of the image's sides


@dataclass(frozen=True)
class ReceptiveField:
    """The energy that the central output position draws from each pixel.

    Attributes:
        energy: ``(H, W)``, float64, sum 1; 0 where the output does not depend on the pixel at all.
        beyond: for each side in `SHARES`, the share of the energy outside a central window with that share
            of the image's height and width.
    """

    energy: Tensor
    beyond: dict[float, float]


def receptive_field(backbone: nn.Module, images: Iterable[Tensor], seed: int = 0) -> ReceptiveField:
    """Average over images the squared gradient of the last output's central position, per pixel.

    The gradient is that of a random projection of the position's channels, which stands for all of them: on
    average it is the squared norm of the Jacobian. A plain sum over the channels would not do, since a
    LayerNorm makes it constant.

    Args:
        backbone: a module that returns maps ``(B, C, h, w)``; the last one counts.
        images: normalised images ``(3, H, W)`` of one size.
        seed: of the projections.

    Raises:
        ValueError: there is no image, or the output does not depend on the pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    was_training = backbone.training
    backbone.eval()
    energies = []
    for image in images:
        pixels = image[None].detach().clone().requires_grad_()
        output = backbone(pixels)[-1]  # (1, C, h, w)
        center = output[0, :, output.shape[2] // 2, output.shape[3] // 2]
        projection = torch.randn(center.shape, generator=generator).to(center)
        (gradient,) = torch.autograd.grad(center @ projection, pixels)
        energy = gradient[0].double().square().sum(dim=0)  # (H, W)
        energies.append(energy / energy.sum())
    backbone.train(was_training)
    if not energies:
        raise ValueError('expected at least one image')
    energy = torch.stack(energies).mean(dim=0)
    if not torch.isfinite(energy).all():
        raise ValueError('the output has no finite gradient with respect to the pixels')
    return ReceptiveField(energy, {side: share_beyond(energy, side) for side in SHARES})


def share_beyond(energy: Tensor, side: float) -> float:
    """Share of the energy outside a central window of ``side`` times the height and width.

    Args:
        energy: ``(H, W)``.
        side: between 0 and 1.
    """
    rows, columns = (round((1 - side) / 2 * length) for length in energy.shape)
    outside = energy.clone()
    outside[rows : energy.shape[0] - rows, columns : energy.shape[1] - columns] = 0
    return (outside.sum() / energy.sum()).item()
