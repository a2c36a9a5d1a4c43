"""Every command of every page is one: a shell reads it as printed, and the program takes its options.

Stand-ins with the programs' names note what they are called with, and the programs' own parsers read it.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from projects.gpu_report.__main__ import parse_args as parse_report
from tests.helpers.pages import PAGES, ROOT, blocks

BLOCKS = {page: blocks(page, 'bash') for page in PAGES}
WITH_COMMANDS = [page for page in PAGES if BLOCKS[page]]
PROGRAMS = (
    'python',
    'python3',
    'pip',
    'make',
    'mim',
    'weightformer-mm',
    'torchrun',
    'srun',
    'scontrol',
)
FETCHING = ('git', 'curl', 'unzip')
SCRIPT = r'tools/(?:dataset_converters/)?\w+\.py'
STAND_IN = """#!/bin/bash
IFS=$'\\x1f'
printf '%s\\n' "${0##*/}"$'\\x1f'"$*" >> "$CALLS"
"""
COMMAND = 'from weightformer_mm_cli.main import main\nmain()\n'


@pytest.fixture
def call_programs(tmp_path):
    """A function that runs text in a shell, and gives the programs that it calls, with their arguments."""
    (tmp_path / 'bin').mkdir()
    for name in (*PROGRAMS, *FETCHING, 'register-python-argcomplete'):
        (tmp_path / 'bin' / name).write_text(STAND_IN)
        (tmp_path / 'bin' / name).chmod(0o755)
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    calls = tmp_path / 'calls'
    calls.touch()

    def call(text: str) -> list[list[str]]:
        env = {'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}', 'CALLS': str(calls)}
        command = ['bash', '-eu', '-c', text]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [line.split('\x1f') for line in calls.read_text().splitlines()]

    return call


class Parsed(BaseException):
    """A program has read its arguments."""


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """A function that lets a script read arguments, and do no more."""
    original = argparse.ArgumentParser.parse_args

    def parse_only(self, *args, **kwargs):
        raise Parsed(original(self, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_only)
    (tmp_path / 'weightformer-mm').write_text(COMMAND)

    def parse(script: str, arguments: list[str]) -> argparse.Namespace:
        path = ROOT / script if script.endswith('.py') else tmp_path / script
        monkeypatch.syspath_prepend(str(path.parent))
        monkeypatch.setattr(sys, 'argv', [str(path), *arguments])
        with pytest.raises(Parsed) as parsed:
            runpy.run_path(str(path), run_name='__main__')
        (options,) = parsed.value.args
        return options

    return parse


REPORT = ['python3', '-m', 'projects.gpu_report']  # what tools/gpu_report.sh calls
# what is not this project's
FOREIGN = (
    ['python', '-m', 'build'],
    ['python', '-c', 'import mmcv.ops'],
    ['register-python-argcomplete', 'weightformer-mm'],
    *(['mim', command, 'weightformer_mm'] for command in ('search', 'train', 'test', 'download')),
    ['scontrol', 'show', 'hostnames'],
)


def check(call: list[str], parse) -> None:
    """That the program has the options of the call, and that the recipes are there."""
    words = [re.sub(rf'.*/(?={SCRIPT}$)', '', word) for word in call]
    ours = [i for i, word in enumerate(words) if re.fullmatch(rf'{SCRIPT}|weightformer-mm', word)]
    if call[0] in FETCHING or call[:3] in FOREIGN:
        pass
    elif call[:3] == REPORT:
        with pytest.raises(Parsed):
            parse_report(call[3:])
    elif ours:
        parse(words[ours[0]], call[ours[0] + 1 :])
    elif call[0] == 'make':
        targets = re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M)
        assert set(call[1:]) <= set(targets)
    else:
        extras = re.findall(r"^        '(\w+)': ", (ROOT / 'setup.py').read_text(), re.M)
        assert call[:2] == ['pip', 'install'], call
        assert set(re.findall(r'\[(\w+)\]', ' '.join(call))) <= set(extras)
    recipes = {path.name for path in ROOT.glob('configs/*/*.py')}
    named = [word for word in words if re.search(r'weightformer-\w+_.*\.py$', word)]
    assert {Path(word).name for word in named} <= recipes


@pytest.mark.parametrize('page', WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_understood(page, call_programs, parse):
    calls = call_programs('\n'.join(BLOCKS[page]))
    assert calls
    for call in calls:
        check(call, parse)


def test_pages_have_many():
    assert len(WITH_COMMANDS) >= 14


def test_the_synopsis_has_the_options_of_the_tools(parse, capsys):
    (text,) = blocks('docs/tools.md', 'text')
    lines = re.findall(rf'^python ({SCRIPT})(.*)$', text, re.M)
    assert {path for path, _ in lines} == {
        path.relative_to(ROOT).as_posix()
        for path in [*ROOT.glob('tools/*.py'), *ROOT.glob('tools/dataset_converters/*.py')]
        if path.name not in ('command_line.py', 'demo.py', 'docs_site.py')
    }
    for path, usage in lines:
        words = usage.split()
        several = words[0].split('|') if '|' in words[0] else []
        for first in several or [None]:
            with pytest.raises(SystemExit):
                parse(path, [*([first] if first else []), '--help'])
            known = re.findall(r'--[a-z-]+', capsys.readouterr().out)
            named = set(re.findall(r'--[a-z-]+', usage))
            assert named <= set(known), path
