"""What a check of a data set found, as a table and as lines."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import UserError

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
_EXAMPLES = 3


class BadData(UserError):
    """A training on the data would fail or learn something else than is meant."""

    exit_code = 1


@dataclass
class Finding:
    """One kind of thing found: how often, and where the first times."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Report:
    """The findings of one data set.

    Args:
        title: which data set, for the reader.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._looked: dict[str, str] = {}  # check → how much of the data it saw
        self._findings: dict[tuple[str, str, str], Finding] = {}

    def looked(self, check: str, number: int, whole: int | None = None) -> None:
        """Note that ``check`` looked at ``number`` things, of ``whole`` in all."""
        self._looked[check] = f'{number}' if whole in (None, number) else f'{number} of {whole}'

    def error(self, check: str, what: str, where: str = '') -> None:
        """Something that makes a training fail or go wrong."""
        self._add(ERROR, check, what, where)

    def warning(self, check: str, what: str, where: str = '') -> None:
        """Something that a training passes over, and that a user should know."""
        self._add(WARNING, check, what, where)

    def note(self, check: str, what: str, where: str = '') -> None:
        """A fact."""
        self._add(NOTE, check, what, where)

    def count(self, level: str) -> int:
        """Number of kinds of findings of a level."""
        return sum(1 for kind, _, _ in self._findings if kind == level)

    def __str__(self) -> str:
        checks = [*self._looked]
        checks += [check for _, check, _ in self._findings if check not in checks]
        rows = [('check', 'looked at', 'result')]
        rows += [
            (name, self._looked.get(name, ''), self._result(name)) for name in dict.fromkeys(checks)
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [self.title]
        lines += [f'  {a:<{widths[0]}}  {b:>{widths[1]}}  {c}' for a, b, c in rows]
        for level in (ERROR, WARNING, NOTE):
            lines += [f'  {line}' for line in self._lines(level)]
        return '\n'.join(lines)

    def _add(self, level: str, check: str, what: str, where: str) -> None:
        finding = self._findings.setdefault((level, check, what), Finding())
        finding.count += 1
        if where and len(finding.examples) < _EXAMPLES:
            finding.examples.append(where)

    def _result(self, check: str) -> str:
        parts = []
        for level in (ERROR, WARNING):
            kinds = sum(1 for kind, of, _ in self._findings if kind == level and of == check)
            parts += [f'{kinds} {level}{"s" if kinds > 1 else ""}'] if kinds else []
        return ', '.join(parts) or 'ok'

    def _lines(self, level: str) -> list[str]:
        lines = []
        for (kind, check, what), finding in self._findings.items():
            if kind != level:
                continue
            count = f' ({finding.count})' if finding.count > 1 else ''
            shown = '; '.join(finding.examples)
            more = '; ...' if finding.examples and finding.count > len(finding.examples) else ''
            where = f': {shown}{more}' if shown else ''
            lines.append(f'{level}: {check}: {what}{count}{where}')
        return lines
