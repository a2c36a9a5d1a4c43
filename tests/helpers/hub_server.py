"""A stand-in for the Hugging Face hub on loopback: the answers that fetching a file needs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest

COMMIT = '0123456789abcdef0123456789abcdef01234567'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    root: Path
    revisions = ('main', 'v1', COMMIT)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip('/').split('/')
        repository, revision, name = '/'.join(parts[:2]), parts[3:4], '/'.join(parts[4:])
        if not (self.root / repository).is_dir():
            return self._refuse('RepoNotFound')
        if not revision or revision[0] not in self.revisions:
            return self._refuse('RevisionNotFound')
        if not (self.root / repository / name).is_file():
            return self._refuse('EntryNotFound')
        content = (self.root / repository / name).read_bytes()
        self.send_response(200)
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header('X-Error-Code', code)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(root: Path) -> Iterator[str]:
    """Serve the files of ``root/owner/name/`` as repositories; gives the server's address."""
    handler = type('Handler', (_Handler,), {'root': root})
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{server.server_address[1]}'
        finally:
            server.shutdown()


def use_endpoint(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What ``HF_ENDPOINT`` does when huggingface_hub is imported."""
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)


@contextmanager
def stand_in(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let huggingface_hub, in this process, fetch from ``root/owner/name/`` into ``cache``."""
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(cache))
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_DISABLE_XET', True)
    with serve(root) as address:
        use_endpoint(monkeypatch, address)
        yield address
