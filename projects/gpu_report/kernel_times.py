"""The part that says which kernels take the time of a step, by PyTorch's profiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from weightformer_mm.utils.tables import text_table

from ..benchmark.clock import failure_of
from ..benchmark.contenders import parse_contenders
from ..benchmark.measure import Entrant
from ..benchmark.steps import MODES, Case
from .findings import FAILED, MEASURED, SEED
from .options import PartOptions, part_options
from .plan import OURS

NAME = 'kernels.txt'
STEPS = 3
LISTED, FOUND = 30, 5  # kernels of a step in the file, and among the findings
HEAD = ('kernel', 'ms', 'share', 'calls')
_LONGEST = 90  # characters of a name


def main() -> None:
    options = part_options('kernel_times')
    names, size = ((OURS, 'convnext_tiny'), 2048)
    if options.rehearse:
        names, size = (('pyramid-micro+torch',), 32)
    sections: list[str] = []
    for name in names:
        for mode in MODES:
            case = Case(mode, 'bfloat16', 1, size, size, seed=SEED)
            try:
                sections.append(_section(name, case, options))
            except Exception as error:
                options.findings.add(f'{name} {mode}', FAILED, detail=failure_of(error))
            (options.out / NAME).write_text('\n\n'.join(sections), encoding='utf-8')


def _section(name: str, case: Case, options: PartOptions) -> str:
    times = kernels(name, case, options.device)
    total = sum(milliseconds for _, milliseconds, _ in times)
    title = f'{name} {case.mode} {case.height}x{case.width}'
    options.findings.add(f'{title}: all kernels', MEASURED, total, 'ms')
    for kernel, milliseconds, calls in times[:FOUND]:
        detail = f'{milliseconds / total:.1%} in {calls} calls'
        options.findings.add(f'{title}: {kernel[:60]}', MEASURED, milliseconds, 'ms', detail)
    lines = [
        (kernel[:_LONGEST], f'{milliseconds:.4g}', f'{milliseconds / total:.1%}', str(calls))
        for kernel, milliseconds, calls in times[:LISTED]
    ]
    return f'{title}: {total:.4g} ms\n{text_table(HEAD, lines)}'


def kernels(name: str, case: Case, device: torch.device) -> list[tuple[str, float, int]]:
    """Name, milliseconds and calls in a step of each kernel, or on a CPU operation; the longest first."""
    (contender,) = parse_contenders([name])
    step = Entrant.build(contender, case, device).step
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == 'cuda' else []

    def repeat() -> None:
        for _ in range(STEPS):
            step.reset()
            step.run()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    repeat()
    with profile(activities=activities) as profiler:
        repeat()
    return _times(profiler.key_averages(), DeviceType.CUDA if device.type == 'cuda' else None)


def _times(averages: Sequence[Any], kind: DeviceType | None) -> list[tuple[str, float, int]]:
    if kind is None:
        found = [(a.key, a.self_cpu_time_total, a.count) for a in averages]
    else:
        old = 'self_cuda_time_total'  # its name in older versions of PyTorch
        found = [
            (a.key, getattr(a, 'self_device_time_total', getattr(a, old, 0.0)), a.count)
            for a in averages
            if a.device_type == kind
        ]
    per_step = [(key, us / 1e3 / STEPS, max(1, calls // STEPS)) for key, us, calls in found if us]
    return sorted(per_step, key=lambda line: -line[1])


if __name__ == '__main__':
    main()
