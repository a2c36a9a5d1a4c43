"""``hf://owner/name[@revision][/file]``: weights in a repository of the Hugging Face hub."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import utils as hub_errors

from ..errors import UserError

SCHEME = 'hf://'
DEFAULT_FILE = 'model.safetensors'
_REFERENCE = re.compile(
    r'hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?', re.ASCII
)


class NoSuchFile(UserError):
    """The repository is there, the file is not."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository; ``revision`` is a branch, tag or commit, None for the default branch."""

    repo: str
    revision: str | None
    file: str

    @classmethod
    def parse(cls, reference: str) -> HubFile:
        """Read a reference; without a file it is ``model.safetensors``.

        Raises:
            UserError: the reference is not of that form.
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise UserError(f'{reference}: expected hf://owner/name[@revision][/file]')
        return cls(match['repo'], match['revision'], match['file'] or DEFAULT_FILE)


def fetch(reference: str, cache_dir: str | os.PathLike | None = None) -> Path:
    """Path of the file in huggingface_hub's cache, downloaded if it is not there.

    Cache, offline switch (``HF_HUB_OFFLINE``), token and server (``HF_ENDPOINT``) are huggingface_hub's. It
    locks its cache, so the processes of a distributed run may all call this.

    Args:
        cache_dir: a folder in place of huggingface_hub's.

    Raises:
        UserError: the reference is malformed, or what it names cannot be had; says which of repository,
            revision, file, network and cache is to blame.
    """
    source = HubFile.parse(reference)
    try:
        path = huggingface_hub.hf_hub_download(
            source.repo, source.file, revision=source.revision, cache_dir=cache_dir
        )
    except (
        hub_errors.HfHubHTTPError,
        hub_errors.LocalEntryNotFoundError,
        hub_errors.HFValidationError,
        OSError,
    ) as error:
        is_gone = isinstance(error, hub_errors.EntryNotFoundError) and not isinstance(
            error, hub_errors.LocalEntryNotFoundError
        )
        kind = NoSuchFile if is_gone else UserError
        raise kind(f'{reference}: {_reason(source, error)}') from error
    return Path(path)


def log_to_stdout() -> None:
    """Let huggingface_hub announce its retries on stdout: a tool keeps stderr for errors."""
    for handler in logging.getLogger('huggingface_hub').handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stdout)


def _reason(source: HubFile, error: Exception) -> str:
    # LocalEntryNotFoundError is an EntryNotFoundError as well, so it comes first
    if isinstance(error, hub_errors.LocalEntryNotFoundError):
        return (
            'not in the cache, and the hub cannot be reached or HF_HUB_OFFLINE is set; '
            'check the network, HF_ENDPOINT and HF_HUB_OFFLINE'
        )
    if isinstance(error, hub_errors.GatedRepoError):
        return f'{source.repo} is gated; ask for access and set HF_TOKEN'
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return f'no repository {source.repo}, or it is private and HF_TOKEN is not set'
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return f'{source.repo} has no revision {source.revision}'
    if isinstance(error, hub_errors.EntryNotFoundError):
        return f'{source.repo} has no file {source.file}'
    if isinstance(error, OSError) and error.filename:
        return f'cannot use the cache, {error.filename}: {error.strerror}; set HF_HOME to another folder'
    return ' '.join(str(error).split())
