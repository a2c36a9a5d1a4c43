"""What a checkpoint file says about itself: the checksums and sizes of its format, a digest in its name."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

from mmengine.logging import print_log

from ..errors import UserError

ZIP_MAGIC = b'PK\x03\x04'  # by these torch tells its present format from the old one
_END_OF_ZIP, _END_SIZE = b'PK\x05\x06', 22
_CHUNK = 1 << 24
# as --publish, torchvision and mmdet write it; not behind the 16 digits that a cached download begins with
_DIGEST = re.compile(r'(?<!^[0-9a-f]{16})-([0-9a-f]{8})(?=\.)')
_NUMBER = re.compile(r'(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|00\d{6}')


def check_digest(path: Path) -> None:
    """Compare the file with the beginning of its sha256, where its name carries one.

    Eight digits that are a date (20261127) or a number with zeros before it (00010000) are none.

    Raises:
        UserError: they differ.
    """
    found = _DIGEST.search(path.name)
    if found is None or _NUMBER.fullmatch(found[1]):
        return
    digest = hashlib.sha256()
    with path.open('rb') as file:
        for chunk in iter(lambda: file.read(_CHUNK), b''):
            digest.update(chunk)
    if digest.hexdigest()[:8] != found[1]:
        raise UserError(
            f'{path} is not the file of that name: its sha256 begins with {digest.hexdigest()[:8]}, the name '
            f'says {found[1]}; get it again, or rename it if that part of the name is no digest'
        )


def check_zip(file: BinaryIO, path: Path) -> None:
    """Verify an archive of torch.save; torch itself verifies no checksum.

    Raises:
        UserError: bytes are changed, missing or too many, or the sizes in it are not those of torch.save.
    """
    with zipfile.ZipFile(file) as archive:
        problem = _odd_structure(file, archive)
        if problem is not None:
            raise UserError(f'{path} is damaged, or no file of torch.save: {problem}')
        if any(entry.CRC for entry in archive.infolist()):
            _check_sums(archive, path)
        else:  # torch.serialization.set_crc32_options(False)
            print_log(f'{path} was saved without checksums: damage cannot be seen', 'current')


def _odd_structure(file: BinaryIO, archive: zipfile.ZipFile) -> str | None:
    entries = archive.infolist()
    names = {entry.filename.lower() for entry in entries}  # torch looks them up without case
    end = file.seek(-_END_SIZE - len(archive.comment), 2)
    if file.read(len(_END_OF_ZIP)) != _END_OF_ZIP:
        return 'something follows its end'
    if len(names) < len(entries):
        return 'a name in it stands twice'
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        return 'it is compressed'
    if sum(entry.file_size for entry in entries) > end:
        return 'what is in it claims to be larger than the file'
    if min(entry.header_offset for entry in entries) != 0:
        return 'something stands before its beginning'
    return None


def _check_sums(archive: zipfile.ZipFile, path: Path) -> None:
    for entry in archive.infolist():
        try:
            with archive.open(entry) as content:
                while content.read(_CHUNK):
                    pass
        except zipfile.BadZipFile as error:
            raise UserError(f'{path} is damaged: {error}') from error
