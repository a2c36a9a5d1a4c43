"""The parts of a report, in the order of what they are worth: a command of Python each, with its seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .findings import SEED

ROWS = 'rows.csv'  # of the benchmark, in the report's folder
OURS = 'pyramid-tiny+triton'
PEERS = ('swin_tiny_patch4_window7_224', 'convnext_tiny', 'deit_small_patch16_224')
FORMS = ('pyramid-tiny+torch', 'plain-pyramid-tiny', 'weightformer-small+triton', 'published-small')
BACKBONES = (OURS, *PEERS, *FORMS)
GRAPHS = (
    *(OURS, f'{OURS}+graph', f'{OURS}+pure', f'{OURS}+pure+graph'),
    *('pyramid-tiny+torch', 'pyramid-tiny+torch+graph', 'convnext_tiny', 'convnext_tiny+graph'),
)
STATIC = (OURS, 'pyramid-tiny+torch', 'pyramid-tiny+torch+compile_static')
DYNAMIC = (
    *('pyramid-tiny+torch', 'pyramid-tiny+torch+compile', f'{OURS}+compile_static'),
    *('convnext_tiny', 'convnext_tiny+compile_static'),
)
BOTH = ('inference', 'train')
REST = 10_000.0  # seconds: all that are left


@dataclass(frozen=True)
class Part:
    """Something to find out.

    Attributes:
        name: for the findings and the log.
        seconds: after which it is interrupted.
        arguments: of Python.
        environment: what it adds to the environment.
        contenders: those of ``tools/benchmark.py backbone``, for another try without one of them.
        not_on_cpu: why a rehearsal leaves it out.
    """

    name: str
    seconds: float
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    contenders: tuple[str, ...] = ()
    not_on_cpu: str = ''


@dataclass(frozen=True)
class Plan:
    """What a report consists of.

    Attributes:
        root: of the repository.
        out: the folder of the report.
        data: the folder with the prepared pictures.
        rehearse: run at tiny sizes on the CPU, with Triton's interpreter.
    """

    root: Path
    out: Path
    data: Path
    rehearse: bool

    def stages(self) -> list[list[Part]]:
        """Parts that run at the same time, stage after stage; in a rehearsal without limits of their own."""
        stages = [
            [self._module('machine', 25)],
            # neither measures time
            [self._module('kernel_tests', 90), self._module('networks', 90)],
            [self._backbones('batch-1', 75, BACKBONES, (1024, 2048), 1, BOTH)],
            [self._module('training', 80, 'camvid'), self._module('training', 80, 'nuclei')],
            [self._backbones('graphs', 45, GRAPHS, (1024,), 1, BOTH)],
            [self._module('large_maps', 30)],
            [self._backbones('huge', 40, BACKBONES, (4096,), 1, BOTH[:1])],
            [self._backbones('batch-8', 75, (*BACKBONES, f'{OURS}+memory'), (1024, 2048), 8, BOTH)],
            [self._operations('operations', 40)],
            [self._module('kernel_times', 30)],
            [self._module('counters', 30)],
            [self._backbones('huge-8', 40, (OURS, *PEERS[:2]), (4096,), 8, BOTH[:1])],
            [self._compiled('compiled', 90, STATIC)],
            [self._compiled('compiled-more', REST, DYNAMIC)],
        ]
        if not self.rehearse:
            return stages
        return [[replace(part, seconds=REST) for part in stage] for stage in stages]

    def parts(self) -> list[Part]:
        return [part for stage in self.stages() for part in stage]

    def _module(self, module: str, seconds: float, *more: str) -> Part:
        """A program of this package; it interprets kernels in a rehearsal if it runs any."""
        options = [f'--out={self.out}', f'--data={self.data}', *(f'--set={name}' for name in more)]
        interprets = self.rehearse and module in ('kernel_tests', 'networks', 'large_maps')
        return Part(
            '-'.join((module, *more)),
            seconds,
            ('-m', f'{__package__}.{module}', *options, *['--rehearse'] * self.rehearse),
            {'TRITON_INTERPRET': '1'} if interprets else {},
        )

    def _benchmark(self, name: str, seconds: float, *options: str, **more: object) -> Part:
        device = ('cpu', '1', '0', '1') if self.rehearse else ('cuda', '5', '0.1', '2')
        shared = zip(('--device', '--rounds', '--min-seconds', '--warmup'), device)
        shared = [word for pair in shared for word in pair]
        shared += ['--dtype', 'bfloat16', '--seed', str(SEED), '--out', str(self.out / ROWS)]
        return Part(
            name, seconds, (str(self.root / 'tools/benchmark.py'), *options, *shared), **more
        )

    def _backbones(
        self,
        name: str,
        seconds: float,
        contenders: tuple[str, ...],
        sizes: tuple[int, ...],
        batch: int,
        modes: tuple[str, ...],
        not_on_cpu: str = '',
    ) -> Part:
        quick = []
        if self.rehearse:
            # one peer will do
            contenders = (_smaller(name) for name in contenders if not name.startswith(PEERS[1:]))
            contenders = tuple(contenders)[: None if batch == 1 and len(modes) > 1 else 2]
            sizes, batch = (64 if sizes[0] > 1024 else 32,), min(batch, 2)
            quick = ['--no-memory', '--no-ceilings']
        options = ('--sizes', *map(str, sizes), '--batch', str(batch), '--modes', *modes, *quick)
        return self._benchmark(
            name,
            seconds,
            *('backbone', *options, '--contenders', *contenders),
            contenders=contenders,
            not_on_cpu=not_on_cpu,
        )

    def _compiled(self, name: str, seconds: float, contenders: tuple[str, ...]) -> Part:
        why = 'compiling for a CPU takes minutes, and says nothing about a GPU'
        return self._backbones(name, seconds, contenders, (1024,), 1, BOTH[:1], why)

    def _operations(self, name: str, seconds: float) -> Part:
        tiny = ('--sizes', '32', '--arch', 'pyramid-micro', '--ops', 'depthwise_conv', 'gelu')
        full = ('--sizes', '2048', '--arch', 'pyramid-tiny')
        options = tiny if self.rehearse else full
        return self._benchmark(name, seconds, 'ops', *options, '--backends', 'torch', 'triton')


def _smaller(contender: str) -> str:
    """The contender's smallest relative, if this repository has one."""
    for name, smallest in (('pyramid-tiny', 'pyramid-micro'), ('former-small', 'former-tiny')):
        contender = contender.replace(name, smallest)
    return contender.replace('published-small', 'published-tiny')


def without(part: Part, contender: str) -> Part:
    """The same without a contender, and without what is finished."""
    left = tuple(name for name in part.contenders if name != contender)
    first = part.arguments.index('--contenders') + 1
    tail = part.arguments[first + len(part.contenders) :]
    arguments = (*part.arguments[:first], *left, *tail, '--resume')
    return Part(f'{part.name} again', part.seconds, arguments, part.environment, left)
