"""URLs and model zoos: everything ends in the safe reader."""

from __future__ import annotations

import os
import re
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as zoos

from tests.helpers.commands import ROOT, Fork
from tests.helpers.hub_server import serve
from tests.helpers.pickles import Call
from weightformer_mm.checkpoints.schemes import use_safe_loading
from weightformer_mm.checkpoints.sources import load_weights
from weightformer_mm.errors import UserError

WEIGHTS = {'state_dict': {'backbone.a': torch.arange(3.0), 'head.b': torch.zeros(1)}}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Address of a folder with ``weights.pth``, a ``page.pth`` in HTML and a pickle ``code.pth``."""
    folder = tmp_path / 'site' / 'owner' / 'name'
    folder.mkdir(parents=True)
    torch.save(WEIGHTS, folder / 'weights.pth')
    (folder / 'page.pth').write_text('<!doctype html>')
    torch.save({'x': Call(os.mkdir, str(tmp_path / 'owned'))}, folder / 'code.pth')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    use_safe_loading()
    with serve(tmp_path / 'site') as address:
        yield f'{address}/owner/name/resolve/main'


def test_a_download_is_kept(site, tmp_path):
    for _ in range(2):
        weights = load_weights(f'{site}/weights.pth')['state_dict']
        assert torch.equal(weights['backbone.a'], torch.arange(3.0))
    (kept,) = (tmp_path / 'hub' / 'checkpoints').iterdir()
    assert kept.name.endswith('-weights.pth')


def test_files_of_one_name_at_two_places_are_two(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        torch.save({'a': torch.full((2,), float(number))}, tmp_path / str(number) / 'epoch_1.pth')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for number in (1, 2):
            url = f'http://127.0.0.1:{server.server_address[1]}/{number}/epoch_1.pth'
            assert load_weights(url)['a'].tolist() == [number, number]
        server.shutdown()


@pytest.mark.parametrize('url', ['http://127.0.0.1:9/a b.pth', 'http://[/weights.pth'])
def test_urls_that_are_none(url):
    with pytest.raises(UserError, match=re.escape(url)):
        load_weights(url)


SCRIPTS = [
    'import mmengine.runner, weightformer_mm',
    "import weightformer_mm, mmengine; mmengine.MODELS.get('WeightFormer')",
    "import weightformer_mm, mmengine; mmengine.HOOKS.get('CheckpointHook')",
]
KNOWN = """
from mmengine.runner import CheckpointLoader
assert CheckpointLoader._get_checkpoint_loader('hf://a/b').__name__ == '_load_checkpoint'
"""


@pytest.mark.parametrize('script', SCRIPTS)
def test_the_hub_is_known_to_every_training_script(script, tmp_path):
    """Whatever it imports and asks for first."""
    (tmp_path / 'script.py').write_text(f'{script}\n{KNOWN}')
    Fork([str(tmp_path / 'script.py')], ROOT, {}, openmmlab=False).wait().ok()


def test_a_download_that_has_not_the_digest_of_its_name_is_not_kept(site, tmp_path):
    folder = tmp_path / 'site' / 'owner' / 'name'
    torch.save(WEIGHTS, folder / 'weights-00c0ffee.pth')
    with pytest.raises(UserError, match='the name says 00c0ffee'):
        load_weights(f'{site}/weights-00c0ffee.pth')
    assert list((tmp_path / 'hub' / 'checkpoints').iterdir()) == []


def test_a_page_is_refused_and_not_kept(site, tmp_path):
    with pytest.raises(UserError, match=f'^{site}/page.pth: .*is no readable checkpoint'):
        load_weights(f'{site}/page.pth')
    assert list((tmp_path / 'hub' / 'checkpoints').iterdir()) == []


def test_absent_file_and_absent_server(site):
    with pytest.raises(UserError, match=f'^{site}/none.pth: download failed: Not Found'):
        load_weights(f'{site}/none.pth')
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{unused.getsockname()[1]}/w.pth'
        with pytest.raises(UserError, match=f'^{url}: download failed: .*refused'):
            load_weights(url)


@pytest.mark.parametrize(
    ('scheme', 'urls'),
    [
        ('torchvision', 'get_torchvision_models'),
        ('modelzoo', 'get_torchvision_models'),
        ('open-mmlab', 'get_external_models'),
        ('openmmlab', 'get_external_models'),
        ('mmcls', 'get_mmcls_models'),
    ],
)
def test_zoos_of_mmengine(site, tmp_path, monkeypatch, scheme, urls):
    table = {'net': f'{site}/weights.pth', 'bad': f'{site}/code.pth'}
    monkeypatch.setattr(zoos, urls, lambda: table)
    use_safe_loading()
    weights = CheckpointLoader.load_checkpoint(f'{scheme}://net')['state_dict']
    assert set(weights) == ({'a'} if scheme == 'mmcls' else set(WEIGHTS['state_dict']))
    with pytest.raises(UserError, match='could run'):
        CheckpointLoader.load_checkpoint(f'{scheme}://bad')
    assert not (tmp_path / 'owned').exists()
    with pytest.raises(UserError, match=f'{scheme}://none: mmengine knows no URL for none'):
        CheckpointLoader.load_checkpoint(f'{scheme}://none')


@pytest.mark.parametrize(
    'reference', ['pavi://net', 's3://bucket/w.pth', 'openmmlab:s3://bucket/w.pth']
)
def test_storage_that_only_mmengine_reads_is_refused(site, reference):
    with pytest.raises(UserError, match='copy the file to disk'):
        CheckpointLoader.load_checkpoint(reference)


def test_every_scheme_of_mmengine_is_taken_over(site):
    modules = {loader.__module__ for loader in CheckpointLoader._schemes.values()}
    assert {module.rpartition('.')[0] for module in modules} == {'weightformer_mm.checkpoints'}


def test_a_server_that_says_nothing_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr('weightformer_mm.checkpoints.sources._PATIENCE', 0.1)
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        with pytest.raises(UserError, match='download failed: .*timed out'):
            load_weights(f'http://127.0.0.1:{silent.getsockname()[1]}/weights.pth')
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize('inserted', ['', '_orig_mod.', 'module._orig_mod.'])
def test_weights_under_model_are_a_checkpoint_of_mmengine(site, tmp_path, inserted):
    weights = {f'{inserted}{name}': value for name, value in WEIGHTS['state_dict'].items()}
    torch.save({'model': weights, 'epoch': 3}, tmp_path / 'other.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'other.pth'))
    plain = {name.removeprefix('module.') for name in loaded['state_dict']}
    assert plain == WEIGHTS['state_dict'].keys() and loaded['epoch'] == 3
