"""Making the MLP train in one of its forms, whatever its size."""

from __future__ import annotations

from dataclasses import replace

from weightformer_mm.ops.mlp.cpu.plan import TABLE

FORMS = tuple(TABLE)


def force(monkeypatch, form: str, piece: int | None = None) -> None:
    """Let every MLP on a CPU train in ``form``, that many elements of the hidden layer at a time.

    What the form does not take goes in pieces that are computed again.
    """
    for name, row in TABLE.items():
        width = 0 if name in (form, 'recomputed') else 10**6
        size = row.piece if piece is None else piece
        monkeypatch.setitem(TABLE, name, replace(row, width=width, elements=0, piece=size))
