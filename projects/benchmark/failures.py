"""What may go wrong with one contender without ending the run: its row says so."""

from __future__ import annotations

from weightformer_mm.errors import RunFailed
from weightformer_mm.utils.translate import explain

OUT_OF_MEMORY = 'out of memory'
_COMPILER = ('torch._dynamo', 'torch._inductor')


def failure_of(error: Exception) -> str | None:
    """The note of a row: out of memory, or ``torch.compile`` failed; None for every other exception."""
    if isinstance(explain(error), RunFailed):
        return OUT_OF_MEMORY
    kind = type(error)
    if kind.__module__.startswith(_COMPILER):
        first = (str(error).strip().splitlines() or [''])[0]
        return f'torch.compile failed: {kind.__name__}: {first}'
    return None
