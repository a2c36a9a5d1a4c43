from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from projects.benchmark.contenders import parse_contenders
from projects.gpu_report import counters, plan
from projects.gpu_report.__main__ import DATA, ROOT, parse_args
from projects.gpu_report.plan import REST, Plan
from tests.helpers.commands import LIBRARIES

PLANS = {name: Plan(ROOT, Path('out'), DATA, name == 'rehearsal') for name in ('full', 'rehearsal')}


@pytest.mark.parametrize('name', PLANS)
def test_every_part_exists_and_its_networks_are_known(name):
    parts = PLANS[name].parts()
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        if part.arguments[0] == '-m':
            assert callable(import_module(part.arguments[1]).main)
        else:
            assert Path(part.arguments[0]).is_file()
        parse_contenders(part.contenders)


def test_all_parts_but_the_last_fit_into_the_time():
    stages = PLANS['full'].stages()
    limits = [max(part.seconds for part in stage) for stage in stages]
    assert limits[-1] == REST
    # limits are generous: together they may be longer than the time, but not by half
    assert sum(limits[:-1]) < 1.5 * 520


def test_a_rehearsal_is_small_and_has_every_part():
    full, small = (plan.parts() for plan in PLANS.values())
    assert [part.name for part in full] == [part.name for part in small]
    for part in small:
        if part.contenders:
            assert not {'pyramid-tiny', 'published-small'} & {
                n.split('+')[0] for n in part.contenders
            }
            sizes = part.arguments[part.arguments.index('--sizes') + 1 :]
            assert int(sizes[0]) <= 128 and sizes[1].startswith('--')


def test_the_peers_and_forms_are_measured_at_all_sizes_and_batches():
    parts = {part.name: part for part in PLANS['full'].parts()}
    for name in ('batch-1', 'batch-8', 'huge'):
        assert set(plan.BACKBONES) <= set(parts[name].contenders)
    for name, sizes, batch in [('batch-1', '1024 2048', 1), ('batch-8', '1024 2048', 8)]:
        text = ' '.join(parts[name].arguments)
        assert f'--sizes {sizes} --batch {batch} --modes inference train' in text
    assert '--sizes 4096 --batch 1 --modes inference' in ' '.join(parts['huge'].arguments)


def test_watched_kernels_exist():
    modules = [
        import_module(f'weightformer_mm.ops.{name}.kernels')
        for name in ('depthwise_conv', 'linear', 'mlp')
    ]
    for kernel in counters.KERNELS:
        assert any(hasattr(module, kernel) for module in modules), kernel


def test_the_command_itself_needs_no_library(tmp_path):
    text = 'import projects.gpu_report.__main__ as m; m.parse_args([])'
    script = (
        f'import sys\nfor name in {("numpy", *LIBRARIES)}:\n    sys.modules[name] = None\n{text}'
    )
    subprocess.run([sys.executable, '-c', script], cwd=ROOT, check=True)


def test_options(monkeypatch, capsys):
    monkeypatch.setenv('OUT', '/somewhere')
    given = parse_args(['--only', 'machine', 'batch-8', '--deadline', '100'])
    assert given.out == Path('/somewhere') and given.only == ['machine', 'batch-8']
    monkeypatch.delenv('OUT')
    assert parse_args([]).out == ROOT / 'work_dirs/gpu_report'
    given = parse_args(['--from', '/there', '--out', 'a', '--data', '/b', '--prepare', '../c'])
    assert (given.out, given.data, given.prepare) == (Path('/there/a'), Path('/b'), Path('/c'))
    for words, expected in [
        (['--only', 'nothing'], 'batch-8'),
        (['--deadline', '0'], '--deadline 0'),
    ]:
        with pytest.raises(SystemExit) as ended:
            parse_args(words)
        assert ended.value.code == 2 and expected in capsys.readouterr().err.splitlines()[-1]
