"""The effective receptive field: how much each pixel counts for the central output position."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor, nn

from ..utils.writing import written_whole

SHARES = (0.25, 0.5, 0.75)  # of the image's sides
_PANEL = 1.9  # inches
_MOST_COLUMNS = 6
_DECADES = 8  # of energy, which the colours cover


@dataclass(frozen=True)
class ReceptiveField:
    """The energy that the central output position draws from each pixel."""

    energy: Tensor  # (H, W), float64, sum 1; 0 where the output does not depend on the pixel at all
    # side in `SHARES` → share of the energy outside a central window with sides of that share
    beyond: dict[float, float]


def receptive_field(backbone: nn.Module, images: Iterable[Tensor], seed: int = 0) -> ReceptiveField:
    """Average the squared gradient of the last output's central position, per pixel, over images.

    The gradient is taken of a random projection of the position's channels: on average its square is the
    squared norm of the Jacobian. A sum over the channels would not work, since a LayerNorm makes it constant.

    Args:
        backbone: a module that returns maps ``(B, C, h, w)``; the last one counts.
        images: normalised images ``(3, H, W)`` of one size.
        seed: seed of the projections.

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
    """Share of the energy ``(H, W)`` outside a central window of ``side`` times the height and width."""
    rows, columns = (round((1 - side) / 2 * length) for length in energy.shape)
    outside = energy.clone()
    outside[rows : energy.shape[0] - rows, columns : energy.shape[1] - columns] = 0
    return (outside.sum() / energy.sum()).item()


def draw_receptive_fields(
    fields: Mapping[str, Mapping[str, ReceptiveField]], out: str | os.PathLike
) -> None:
    """Write a picture with one row per state of training and one column per strategy; white is exactly zero.

    If there are more than six columns, they continue in further rows. All panels share one colour scale.

    Args:
        fields: row title → column title → field. Every row has the same columns.
        out: the PNG to write; it appears whole or not at all.
    """
    columns = list(next(iter(fields.values())))
    groups = [columns[at : at + _MOST_COLUMNS] for at in range(0, len(columns), _MOST_COLUMNS)]
    lines = [(row, group) for group in groups for row in fields]
    panels = [field for per_column in fields.values() for field in per_column.values()]
    largest = max(_relative(panel).max().item() for panel in panels)
    norm = LogNorm(largest / 10**_DECADES, largest)
    height, width = panels[0].energy.shape
    size = (_PANEL * len(groups[0]) + 1.3, (_PANEL * height / width + 0.4) * len(lines))
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(lines), len(groups[0]), squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for axes, (row, group) in zip(grid, lines):
        for axis, column in zip(axes, group):
            axis.set_title(column, fontsize=9)
            drawn = _draw_panel(axis, fields[row][column], norm)
        axes[0].set_ylabel(row)
    bar = figure.colorbar(drawn, ax=grid, fraction=0.02)
    bar.set_label('energy of a pixel / mean over the pixels; white: exactly 0', fontsize=8)
    with written_whole(Path(out)) as partial:
        figure.savefig(partial, dpi=130, format='png')


def _relative(field: ReceptiveField) -> Tensor:
    """The energy relative to an even spread, so that images of any size share a scale."""
    return field.energy * field.energy.numel()


def _draw_panel(axis: Axes, field: ReceptiveField, norm: LogNorm) -> AxesImage:
    energy = _relative(field)
    shown = torch.where(energy == 0, torch.nan, energy.clamp(min=norm.vmin))
    axis.set_axis_on()
    axis.set_xticks([])
    axis.set_yticks([])
    shares = [f'{side:.0%}: {_percent(share)}' for side, share in field.beyond.items()]
    axis.set_xlabel('beyond ' + ', '.join(shares[1:]), fontsize=7)
    return axis.imshow(shown.numpy(), norm=norm, cmap='inferno', interpolation='nearest')


def _percent(share: float) -> str:
    return '0' if share == 0 else f'{share:.1%}' if share >= 1e-3 else f'{share:.0e}'
