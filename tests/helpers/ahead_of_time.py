"""Compile the Triton kernels that a function launches, for a GPU that need not be there.

The launchers run as they are, on CPU tensors; nothing is launched, so what they return holds no result.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

HOPPER = 90
# compute capability → what the assembler calls it; from Hopper on with its own matrix instructions
ARCHITECTURES = {80: 'sm_80', HOPPER: 'sm_90a', 100: 'sm_100a'}


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel.

    Attributes:
        name: of the Triton function.
        grid: programs along each axis.
        warps: per program.
        ptx: its code.
        registers: per thread.
        spilled: bytes per thread stored to and loaded from memory for want of registers.
        shared: bytes of shared memory per program.
    """

    name: str
    grid: tuple[int, ...]
    warps: int
    ptx: str
    registers: int
    spilled: int
    shared: int


def compile_launches(launcher: Callable, *args, capability: int = HOPPER, **kwargs) -> list[Kernel]:
    """The kernels that ``launcher(*args, **kwargs)`` launches, in order, compiled for a GPU."""
    launches = []
    with _watch(launches, capability):
        launcher(*args, **kwargs)
    return [_measure(compiled, grid, ARCHITECTURES[capability]) for compiled, grid in launches]


def count_compilations(kernel: JITFunction) -> int:
    """Into how many forms ``kernel`` has been compiled in this process."""
    return sum(len(caches[0]) for caches in kernel.device_caches.values())


@dataclass
class _Driver:
    """What Triton asks of a driver before it compiles."""

    capability: int

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability  # so that Triton does not take one GPU's kernel for another's

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def _watch(launches: list, capability: int) -> Iterator[None]:
    run, active = JITFunction.run, driver._active

    def compile_only(self, *args, grid, warmup, **kwargs):
        compiled = run(self, *args, grid=grid, warmup=True, **kwargs)
        launches.append((compiled, grid))
        return compiled

    JITFunction.run = compile_only
    driver.set_active(_Driver(capability))
    try:
        yield
    finally:
        JITFunction.run = run
        driver._active = active


def _measure(compiled, grid: tuple[int, ...], architecture: str) -> Kernel:
    """Assemble the kernel once more, for what the assembler has to say about it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'kernel.ptx'
        source.write_text(compiled.asm['ptx'])
        blackwell = architecture.startswith('sm_10')
        ptxas = knobs.nvidia.ptxas_blackwell if blackwell else knobs.nvidia.ptxas
        command = [ptxas.path, '-v', f'--gpu-name={architecture}', str(source)]
        command += ['-o', str(Path(folder) / 'kernel.cubin')]
        log = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    spilled = re.findall(r'(\d+) bytes spill (?:stores|loads)', log)
    return Kernel(
        name=compiled.metadata.name,
        grid=tuple(grid),
        warps=compiled.metadata.num_warps,
        ptx=compiled.asm['ptx'],
        registers=int(re.search(r'Used (\d+) registers', log)[1]),
        spilled=sum(map(int, spilled)),
        shared=compiled.metadata.shared,
    )
