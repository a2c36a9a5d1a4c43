from __future__ import annotations

import gc
import signal
import subprocess
import sys
from pathlib import Path

# no library: the process that only hands tests out to others needs none of them
import pytest

# a shell ignores Ctrl-C for what it starts in the background, and so would the processes of the tests
signal.signal(signal.SIGINT, signal.default_int_handler)
# last, so that a package that is installed comes first
sys.path.append(str(Path(__file__).parent / 'stand_ins'))


def pytest_collection() -> None:
    """Import without collecting garbage, of which there is none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Spare what is imported from the garbage collector, which each data set of mmengine calls."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The same for what the tests of a file imported."""
    if nextitem is None or nextitem.path != item.path:
        pytest_collection_finish()


def _named_by_runs() -> dict[type, dict]:
    """The tables in which mmengine keeps what runs share by their experiment's name, by their class."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    classes = [DefaultScope, MMLogger, MessageHub, Visualizer]
    for cls in classes:
        classes.extend(cls.__subclasses__())
    return {cls: cls._instance_dict for cls in classes}


@pytest.fixture(autouse=True)
def own_experiment():
    """What a run registers ends with its test.

    Two runs of a config within a second have one name, so the later would write into the earlier's
    folder; and the default scope of a run would decide where the next test's modules are looked up.
    """
    before = {cls: set(table) for cls, table in _named_by_runs().items()}
    yield
    # a build in another scope puts another table in the place of the scopes' own
    for cls, table in _named_by_runs().items():
        for name in table.keys() - before.get(cls, set()):
            del table[name]


@pytest.fixture(autouse=True, scope='session')
def plain_config_text():
    """A config is written several times in each run, which yapf would make the most of a test's time."""
    from yapf.yapflib import yapf_api

    original, yapf_api.FormatCode = yapf_api.FormatCode, lambda text, **options: (text, True)
    yield
    yapf_api.FormatCode = original


def _make_shapes(folder: Path, size: int, **kind: bool) -> Path:
    from weightformer_mm.datasets import ShapesConfig, make_shapes

    make_shapes(folder, ShapesConfig(train=8, val=3, size=size, **kind), progress=False)
    return folder


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """A small Shapes data set: 8 training and 3 validation images of 96x96 pixels."""
    return _make_shapes(tmp_path_factory.mktemp('data') / 'shapes', 96)


@pytest.fixture(scope='session')
def context_shapes(tmp_path_factory) -> Path:
    """A small ContextShapes set: 8 training and 3 validation images of 100x100 pixels."""
    return _make_shapes(tmp_path_factory.mktemp('data') / 'shapes_context', 100, context=True)


@pytest.fixture
def no_safe_globals():
    """Nothing but tensors and plain values may be read with ``weights_only=True`` in this test."""
    import torch

    if not hasattr(torch.serialization, 'get_safe_globals'):  # torch < 2.4 allows nothing else
        yield
        return
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.add_safe_globals(allowed)


@pytest.fixture(scope='session')
def single_shapes(tmp_path_factory) -> Path:
    """A small Shapes set for classification: 8 training and 3 validation images of 64x64 pixels."""
    return _make_shapes(tmp_path_factory.mktemp('data') / 'shapes_single', 64, single=True)


@pytest.fixture(scope='session')
def tiny_set(tmp_path_factory) -> Path:
    """A Shapes set of 4 training and 2 validation images of 64x64 pixels, with 18 and 10 objects."""
    from weightformer_mm.datasets import ShapesConfig, make_shapes

    folder = tmp_path_factory.mktemp('data') / 'tiny'
    make_shapes(folder, ShapesConfig(train=4, val=2, size=64), progress=False)
    return folder


@pytest.fixture(scope='session')
def read_tree():
    """A function that gives the bytes of every file below a folder, by relative name."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob('*') if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return read


@pytest.fixture
def small_disk():
    """Makes a folder a file system of a given size, such as '64k'."""
    mounted = []

    def mount(folder: Path, size: str) -> Path:
        folder.mkdir()
        command = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f'a file system of {size} cannot be mounted: {done.stderr.strip()}')
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(['umount', str(folder)], check=True)


@pytest.fixture
def one_process(tmp_path):
    """A group of processes with this one alone."""
    import torch

    store = torch.distributed.FileStore(str(tmp_path / 'store'), 1)
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
