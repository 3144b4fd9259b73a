"""A Media is known by its content: path → MediaId."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ivsearch.domain import MediaId
from ivsearch.errors import MediaError
from ivsearch.media.faults import explain

CHUNK_BYTES = 64 * 1024
CHUNKS = 32
BLOCK_BYTES = 1 << 20


def fingerprint(path: Path, *, strict: bool = False) -> MediaId:
    """32 hexadecimal digits of BLAKE2b (RFC 7693) over the content of the file.

    Fast (the default): the size and 32 evenly spaced chunks of 64 KiB, first and last bytes included; files up to
    2 MiB are read whole. It misses an edit that keeps the size and lies wholly between the chunks: a few bytes
    patched in a large file (a tag rewritten in place), never a re-encode, a cut, or another recording.
    Strict reads every byte. The two give different ids for one file, so a Library keeps to one of them.

    Raises MediaError when the file cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(digest_size=16, person=b"strict" if strict else b"fast")
            digest.update(size.to_bytes(8, "little"))
            if strict or size <= CHUNKS * CHUNK_BYTES:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
            else:
                for index in range(CHUNKS):
                    file.seek((size - CHUNK_BYTES) * index // (CHUNKS - 1))
                    digest.update(file.read(CHUNK_BYTES))
    except OSError as error:
        raise MediaError(explain(path, error)) from error
    return digest.hexdigest()
