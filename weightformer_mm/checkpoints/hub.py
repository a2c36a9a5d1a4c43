"""``hf://owner/name[@revision][/file]``: weights in a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub import utils as hub_errors

from ..errors import UserError

SCHEME = 'hf://'
_REFERENCE = re.compile(
    r'hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?', re.ASCII
)
_REASONS = {  # the order counts: some are subclasses of others
    hub_errors.LocalEntryNotFoundError: 'not in the cache, and the hub cannot be reached or HF_HUB_OFFLINE '
    'is set; check the network, HF_ENDPOINT and HF_HUB_OFFLINE',
    hub_errors.GatedRepoError: '{repo} is gated; ask for access and set HF_TOKEN',
    hub_errors.RepositoryNotFoundError: 'no repository {repo}, or it is private and HF_TOKEN is not set',
    hub_errors.RevisionNotFoundError: '{repo} has no revision {revision}',
    hub_errors.EntryNotFoundError: '{repo} has no file {file}',
}


class NoSuchFile(UserError):
    """The repository is there, the file is not."""


def fetch(reference: str, cache_dir: str | Path | None = None) -> Path:
    """Path of the file in huggingface_hub's cache, downloaded if it is not there.

    Cache, offline switch (``HF_HUB_OFFLINE``), token and server (``HF_ENDPOINT``) are huggingface_hub's. It
    locks its cache, so all processes of a distributed run may call this.

    Args:
        reference: the revision is a branch, tag or commit; the file is ``model.safetensors`` by default.
        cache_dir: a folder to use instead of huggingface_hub's.

    Raises:
        UserError: the reference is malformed, or the file is not available; the message says why.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UserError(f'{reference}: expected hf://owner/name[@revision][/file]')
    repo, revision, file = match['repo'], match['revision'], match['file'] or 'model.safetensors'
    try:
        path = huggingface_hub.hf_hub_download(repo, file, revision=revision, cache_dir=cache_dir)
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # also those of its HTTP client, of which versions have different ones
        kind = next((kind for kind in _REASONS if isinstance(error, kind)), None)
        if kind is not None:
            reason = _REASONS[kind].format(repo=repo, revision=revision, file=file)
        elif isinstance(error, OSError) and error.filename:
            place, why = error.filename, error.strerror
            reason = f'cannot use the cache, {place}: {why}; set HF_HOME to another folder'
        else:
            reason = ' '.join(f'{error}'.split()) or type(error).__name__
        raised = NoSuchFile if kind is hub_errors.EntryNotFoundError else UserError
        raise raised(f'{reference}: {reason}') from error
    return Path(path)
