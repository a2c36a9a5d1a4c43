"""``hf://owner/name[@revision][/file]``: weights in a repository of the Hugging Face hub."""

from __future__ import annotations

import logging
import re
import sys
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


def fetch(reference: str, cache_dir: str | Path | None = None) -> Path:
    """Path of the file in huggingface_hub's cache, downloaded if it is not there.

    Cache, offline switch (``HF_HUB_OFFLINE``), token and server (``HF_ENDPOINT``) are huggingface_hub's. It
    locks its cache, so the processes of a distributed run may all call this.

    Args:
        reference: the revision is a branch, tag or commit, by default the default branch; the file is
            ``model.safetensors`` by default.
        cache_dir: a folder in place of huggingface_hub's.

    Raises:
        UserError: the reference is malformed, or the file cannot be had; says whether repository, revision,
            file, network or cache is to blame.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UserError(f'{reference}: expected hf://owner/name[@revision][/file]')
    repo, revision, file = match['repo'], match['revision'], match['file'] or DEFAULT_FILE
    try:
        path = huggingface_hub.hf_hub_download(repo, file, revision=revision, cache_dir=cache_dir)
    # LocalEntryNotFoundError is an EntryNotFoundError as well, so it comes first
    except hub_errors.LocalEntryNotFoundError as error:
        raise UserError(
            f'{reference}: not in the cache, and the hub cannot be reached or HF_HUB_OFFLINE is set; '
            'check the network, HF_ENDPOINT and HF_HUB_OFFLINE'
        ) from error
    except hub_errors.EntryNotFoundError as error:
        raise NoSuchFile(f'{reference}: {repo} has no file {file}') from error
    except hub_errors.GatedRepoError as error:
        raise UserError(f'{reference}: {repo} is gated; ask for access and set HF_TOKEN') from error
    except hub_errors.RepositoryNotFoundError as error:
        raise UserError(
            f'{reference}: no repository {repo}, or it is private and HF_TOKEN is not set'
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise UserError(f'{reference}: {repo} has no revision {revision}') from error
    except (hub_errors.HFValidationError, OSError) as error:  # errors of HTTP are OSErrors
        reason = ' '.join(str(error).split())
        if isinstance(error, OSError) and error.filename:
            place, why = error.filename, error.strerror
            reason = f'cannot use the cache, {place}: {why}; set HF_HOME to another folder'
        raise UserError(f'{reference}: {reason}') from error
    return Path(path)


def log_to_stdout() -> None:
    """Let huggingface_hub announce its retries on stdout: a tool keeps stderr for errors."""
    for handler in logging.getLogger('huggingface_hub').handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stdout)
