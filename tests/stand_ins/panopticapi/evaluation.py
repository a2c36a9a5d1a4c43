"""The sums behind the panoptic quality."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields

OFFSET, VOID = 256**3, 0


@dataclass
class _Sums:
    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0


class PQStat:
    """Of each category the matched, the superfluous and the missed segments."""

    def __init__(self) -> None:
        self.pq_per_cat: dict[int, _Sums] = defaultdict(_Sums)

    def __getitem__(self, category: int) -> _Sums:
        return self.pq_per_cat[category]

    def __iadd__(self, other: PQStat) -> PQStat:
        for category, sums in other.pq_per_cat.items():
            for name in (field.name for field in fields(sums)):
                own = self.pq_per_cat[category]
                setattr(own, name, getattr(own, name) + getattr(sums, name))
        return self

    def pq_average(self, categories: dict, isthing: bool | None) -> tuple[dict, dict]:
        """Quality of all, of things or of stuff; and that of each category."""
        each, seen = {}, []
        for category, entry in categories.items():
            if isthing is not None and isthing != bool(entry['isthing']):
                continue
            sums = self.pq_per_cat[category]
            whole = sums.tp + (sums.fp + sums.fn) / 2
            found = sums.iou / max(sums.tp, 1), sums.tp / max(whole, 0.5)
            each[category] = {'pq': found[0] * found[1], 'sq': found[0], 'rq': found[1]}
            seen += [each[category]] if whole else []
        means = {key: sum(one[key] for one in seen) / len(seen) for key in ('pq', 'sq', 'rq')}
        return {**means, 'n': len(seen)}, each
