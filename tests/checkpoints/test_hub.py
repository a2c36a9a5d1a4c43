"""``hf://`` against a stand-in for the hub."""

from __future__ import annotations

import os
import socket

import huggingface_hub
import pytest
import safetensors.torch
import torch
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader

from tests.helpers import hub_server
from tests.helpers.hub_server import stand_in, use_endpoint
from weightformer_mm.checkpoints.hub import fetch
from weightformer_mm.checkpoints.schemes import use_safe_loading
from weightformer_mm.errors import UserError

WEIGHTS = {'a': torch.arange(3.0)}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository ``owner/name``; the address of its server. The cache is new."""
    repository = tmp_path / 'hub' / 'owner' / 'name'
    (repository / 'sub').mkdir(parents=True)
    safetensors.torch.save_file(WEIGHTS, repository / 'model.safetensors')
    torch.save(WEIGHTS, repository / 'sub' / 'weights.pth')
    with stand_in(tmp_path / 'hub', tmp_path / 'cache', monkeypatch) as address:
        yield address


@pytest.mark.parametrize(
    'reference', ['hf://', 'hf://o', 'hf://o/', 'hf:/o/n', 'hf://o/n@', 'hf://o/n/']
)
def test_malformed_references(reference):
    with pytest.raises(UserError, match=r'expected hf://owner/name\[@revision\]\[/file\]'):
        fetch(reference)


@pytest.mark.parametrize('reference', ['', '@v1', '/sub/weights.pth', '@main/sub/weights.pth'])
def test_mmengine_loads_from_the_hub_and_then_from_the_cache(hub, reference, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    use_safe_loading()
    for _ in ('online', 'offline'):
        loaded = CheckpointLoader.load_checkpoint(f'hf://owner/name{reference}')
        assert torch.equal(loaded['state_dict']['a'], WEIGHTS['a'])
        monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)


@pytest.mark.parametrize(
    ('reference', 'reason'),
    [
        ('hf://owner/none', 'no repository owner/none'),
        ('hf://owner/name@v9', 'owner/name has no revision v9'),
        ('hf://owner/name/none.pth', 'owner/name has no file none.pth'),
    ],
)
def test_what_is_not_there_is_named(hub, reference, reason):
    with pytest.raises(UserError, match=f'^{reference}: {reason}'):
        fetch(reference)


def test_no_network(hub, monkeypatch):
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        use_endpoint(monkeypatch, f'http://127.0.0.1:{unused.getsockname()[1]}')
        monkeypatch.setattr('time.sleep', lambda seconds: None)  # between its retries
        with pytest.raises(UserError, match='not in the cache, and the hub cannot be reached'):
            fetch('hf://owner/name')


def test_offline_switch(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(UserError, match='HF_HUB_OFFLINE'):
        fetch('hf://owner/name')


def test_unusable_cache(hub, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'file'))
    with pytest.raises(UserError, match='cannot use the cache, .*file.*HF_HOME'):
        fetch('hf://owner/name')


def test_a_page_in_place_of_weights_is_refused(hub, tmp_path):
    page = tmp_path / 'hub' / 'owner' / 'name' / 'model.safetensors'
    page.write_text('<!doctype html>')
    backbone = MODELS.build(
        dict(
            type='WeightFormer',
            arch=dict(embed_dims=8, depth=1),
            init_cfg=dict(type='Pretrained', checkpoint='hf://owner/name'),
        )
    )
    with pytest.raises(UserError, match='is no readable checkpoint'):
        backbone.init_weights()


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_unreadable_cache(hub, tmp_path):
    fetch('hf://owner/name')
    blobs = next((tmp_path / 'cache').glob('models--*'))
    blobs.chmod(0)
    try:
        with pytest.raises(UserError, match='cannot use the cache'):
            fetch('hf://owner/name')
    finally:
        blobs.chmod(0o755)


@pytest.mark.parametrize('file', ['../../x', '..', '/etc/passwd', 'a\0b', '.'])
def test_files_elsewhere_are_refused(hub, file):
    with pytest.raises(UserError, match='^hf://owner/name/') as error:
        fetch(f'hf://owner/name/{file}')
    assert '\n' not in str(error.value)


def test_a_commit_that_leads_elsewhere_is_refused(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_server, 'COMMIT', '../../../owned')
    with pytest.raises(UserError, match='^hf://owner/name: '):
        fetch('hf://owner/name')
    assert not list(tmp_path.rglob('owned*'))


def test_an_answer_that_breaks_off(hub, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)  # between its retries
    monkeypatch.setattr(hub_server._Handler, 'do_GET', lambda self: self.connection.close())
    with pytest.raises(UserError, match='^hf://owner/name: ') as error:
        fetch('hf://owner/name')
    assert '\n' not in str(error.value)
