"""The content of a scan file as one forward stream of bytes, decompressed where the file is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mrharmony.scans.file_checks import check_first_bytes
from mrharmony.scans.findings import ScanFault, error
from mrharmony.scans.gzip_integrity import PIECE_BYTES, decompress
from mrharmony.scans.names import COMPRESSED_SUFFIXES, scan_suffix
from mrharmony.volume import Finding


class ByteSource:
    """Bytes that are read once, from first to last."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        """Take the content in order, in non-empty pieces."""
        self._pieces = pieces
        self._rest = memoryview(b"")
        self.position = 0

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or raise `ScanFault` where the content has fewer."""
        parts: list[memoryview] = []
        missing = size
        while missing:
            part = self._next_part(missing)
            if not part:
                raise ScanFault(
                    error(
                        "truncated-data",
                        f"The content ends after {self.position:,} bytes, before all voxels were read.",
                        "Copy, download or convert the scan again.",
                    )
                )
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def skip_to(self, position: int) -> None:
        """Read on to an offset from the start of the content, and forget what lies between."""
        while self.position < position:
            self.read(min(PIECE_BYTES, position - self.position))

    def drain(self, limit: int) -> int:
        """Read on to the end, or until more than `limit` bytes came; return how many bytes came."""
        start = self.position
        while self.position - start <= limit and self._next_part(PIECE_BYTES):
            pass
        return self.position - start

    def _next_part(self, size: int) -> memoryview:
        """Return up to `size` bytes, or nothing at the end."""
        self._rest = self._rest or memoryview(next(self._pieces, b""))
        part, self._rest = self._rest[:size], self._rest[size:]
        self.position += len(part)
        return part


@contextmanager
def open_scan(path: Path, findings: list[Finding]) -> Iterator[ByteSource]:
    """Open a scan file for one pass over its content.

    Parameters
    ----------
    path
        A file whose name ends in one of `SCAN_SUFFIXES`.
    findings
        Where harmless faults of the compression are noted while the content is read.

    Raises
    ------
    ScanFault
        The first bytes belie the name; or, while reading, the compressed data are damaged.
    """
    with path.open("rb") as stream:
        check_first_bytes(path, stream.read(64))
        stream.seek(0)
        if scan_suffix(path) in COMPRESSED_SUFFIXES:
            yield ByteSource(decompress(stream, findings))
        else:
            yield ByteSource(iter(partial(stream.read, PIECE_BYTES), b""))
