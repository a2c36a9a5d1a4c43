"""Bytes that are not those that were written are seen, as far as the format lets them be."""

from __future__ import annotations

import hashlib
import warnings
import zipfile

import pytest
import safetensors.torch
import torch

from weightformer_mm.checkpoints import integrity as file_integrity
from weightformer_mm.checkpoints.safe_load import load_checkpoint_file
from weightformer_mm.errors import UserError

WEIGHTS = {'a': torch.arange(1000.0)}


@pytest.fixture
def saved(tmp_path):
    torch.save(WEIGHTS, tmp_path / 'file.pth')
    return tmp_path / 'file.pth'


def test_one_bit_of_a_tensor(saved):
    data = bytearray(saved.read_bytes())
    place = data.index(WEIGHTS['a'].numpy().tobytes())
    data[place + 100] ^= 1
    saved.write_bytes(data)
    with pytest.raises(UserError, match=f'{saved} is damaged: .*data/0 in it fails its check'):
        load_checkpoint_file(saved)


def test_files_without_checksums_load(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(file_integrity, 'print_log', lambda text, _: said.append(text))
    if not hasattr(torch.serialization, 'set_crc32_options'):
        pytest.skip('this torch always writes checksums')
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(WEIGHTS, tmp_path / 'file.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_checkpoint_file(tmp_path / 'file.pth')['a'], WEIGHTS['a'])
    assert [text.split(': ')[0] for text in said] == [
        f'{tmp_path}/file.pth was saved without checksums'
    ]


@pytest.mark.parametrize('kind', ['zip', 'old', 'safetensors'])
@pytest.mark.parametrize(
    'change', [lambda d: d + b'\0', lambda d: d[:-1], lambda d: d[: len(d) // 2]]
)
def test_ends(kind, change, tmp_path):
    path = tmp_path / ('file.safetensors' if kind == 'safetensors' else 'file.pth')
    if kind == 'safetensors':
        safetensors.torch.save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=kind == 'zip')
    load_checkpoint_file(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match='damaged'):
        load_checkpoint_file(path)


def rewrite(path, times=1, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with warnings.catch_warnings(), zipfile.ZipFile(path, 'w') as archive:
        warnings.simplefilter('ignore')
        for name, data in list(content.items()) * times:
            archive.writestr(name, data, compression)


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (lambda path: rewrite(path, times=2), 'a name in it appears twice'),
        (lambda path: rewrite(path, compression=zipfile.ZIP_DEFLATED), 'it is compressed'),
    ],
)
def test_what_torch_never_writes(saved, change, problem):
    change(saved)
    with pytest.raises(UserError, match=problem):
        load_checkpoint_file(saved)


def test_digests_in_names(saved):
    data = saved.read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:8]
    wrong = f'{int(digest, 16) ^ 0xA0000000:08x}'
    fine = [f'a-{digest}.pth', f'a-{digest}.pth.tar', 'run-20261127.pth', 'step-00010000.pth']
    for name in [*fine, f'{"0" * 16}-{wrong}.pth']:  # a cached download of <wrong>.pth
        (saved.parent / name).write_bytes(data)
        load_checkpoint_file(saved.parent / name)
    bad = saved.parent / f'mask-rcnn_20200205-{wrong}.pth'
    bad.write_bytes(data)
    with pytest.raises(UserError, match=f'sha256 begins with {digest}, the name says {wrong}'):
        load_checkpoint_file(bad)
