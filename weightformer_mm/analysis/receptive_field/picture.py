"""Receptive fields side by side, with one colour scale."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ...utils.writing import written_whole
from .energy import ReceptiveField

PANEL = 1.9  # inches
MOST_COLUMNS = 6
DECADES = 8  # of energy that the colours cover


def draw_receptive_fields(
    fields: Mapping[str, Mapping[str, ReceptiveField]], out: str | os.PathLike
) -> None:
    """Write a picture: one row per state of training, one column per strategy; white is exactly zero.

    More than six columns stand in several groups of rows, one below the other.

    Args:
        fields: row title → column title → field. Every row has the same columns.
        out: the PNG to write; it appears whole or not at all.
    """
    columns = list(next(iter(fields.values())))
    groups = [columns[at : at + MOST_COLUMNS] for at in range(0, len(columns), MOST_COLUMNS)]
    shape = (len(groups) * len(fields), len(groups[0]))
    sample = next(iter(next(iter(fields.values())).values())).energy
    height = PANEL * sample.shape[0] / sample.shape[1] + 0.4
    figure = Figure(figsize=(PANEL * shape[1] + 1.3, height * shape[0]), layout='constrained')
    axes = figure.subplots(*shape, squeeze=False)
    norm = _scale(fields)
    for line, (group, row) in enumerate((group, row) for group in groups for row in fields):
        for axis in axes[line]:
            axis.set_axis_off()
        for axis, column in zip(axes[line], group):
            drawn = _draw(axis, fields[row][column], norm)
            axis.set_title(column, fontsize=9)
        axes[line][0].set_ylabel(row)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.02)
    bar.set_label('energy of a pixel / mean over the pixels; white: exactly 0', fontsize=8)
    with written_whole(Path(out)) as partial:
        figure.savefig(partial, dpi=130, format='png')


def _relative(field: ReceptiveField) -> torch.Tensor:
    """Energy relative to an even spread, so that images of any size share a scale."""
    return field.energy * field.energy.numel()


def _scale(fields: Mapping[str, Mapping[str, ReceptiveField]]) -> LogNorm:
    largest = max(
        _relative(field).max().item() for row in fields.values() for field in row.values()
    )
    return LogNorm(largest / 10**DECADES, largest)


def _draw(axis: Axes, field: ReceptiveField, norm: LogNorm):
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
