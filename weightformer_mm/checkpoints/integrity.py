"""What a checkpoint file says about itself: the checksums and sizes of its format, a digest in its name."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

from mmengine.logging import print_log

from ..errors import UserError

ZIP_MAGIC = b'PK\x03\x04'  # torch recognises its current format by these bytes
_END_OF_ZIP, _END_SIZE = b'PK\x05\x06', 22
_CHUNK = 1 << 24
# as --publish, torchvision and mmdet write it; not right after the 16 digits that begin a cached download
_DIGEST = re.compile(r'(?<!^[0-9a-f]{16})-([0-9a-f]{8})(?=\.)')
_DATE_OR_COUNT = re.compile(r'(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|00\d{6}')


def check_digest(path: Path) -> None:
    """Raise UserError if the name contains the first digits of a sha256 that is not the file's.

    Eight digits that form a date (20261127) or a padded number (00010000) are not a digest.
    """
    named = _DIGEST.search(path.name)
    if named is None or _DATE_OR_COUNT.fullmatch(named[1]):
        return
    sha256 = hashlib.sha256()
    with path.open('rb') as file:
        for chunk in iter(lambda: file.read(_CHUNK), b''):
            sha256.update(chunk)
    digest = sha256.hexdigest()[:8]
    if digest != named[1]:
        raise UserError(
            f'{path} is not the file of that name: its sha256 begins with {digest}, the name '
            f'says {named[1]}; get it again, or rename it if that part of the name is no digest'
        )


def check_zip(file: BinaryIO, path: Path) -> None:
    """Verify an archive of torch.save; torch itself verifies no checksum.

    Raises:
        UserError: bytes were changed, lost or added, or the sizes in it cannot come from torch.save.
    """
    with zipfile.ZipFile(file) as archive:
        problem = _odd_structure(file, archive)
        if problem is not None:
            raise UserError(f'{path} is damaged, or not a file of torch.save: {problem}')
        if not any(entry.CRC for entry in archive.infolist()):
            # torch.serialization.set_crc32_options(False)
            print_log(f'{path} was saved without checksums: damage cannot be seen', 'current')
            return
        damaged = archive.testzip()
        if damaged is not None:
            raise UserError(f'{path} is damaged: {damaged} in it fails its check (CRC-32)')


def _odd_structure(file: BinaryIO, archive: zipfile.ZipFile) -> str | None:
    entries = archive.infolist()
    names = {entry.filename.lower() for entry in entries}  # torch ignores case
    end = file.seek(-_END_SIZE - len(archive.comment), os.SEEK_END)
    problems = {
        'something follows its end': file.read(len(_END_OF_ZIP)) != _END_OF_ZIP,
        'a name in it appears twice': len(names) < len(entries),
        'it is compressed': any(e.compress_type != zipfile.ZIP_STORED for e in entries),
        'its content claims to be larger than the file': sum(e.file_size for e in entries) > end,
        'something precedes its beginning': min(e.header_offset for e in entries) != 0,
    }
    return next((problem for problem, holds in problems.items() if holds), None)
