"""Decompress gzip to its very last byte, so that checksum and length of every member are verified."""

from __future__ import annotations

import zlib
from collections.abc import Generator
from typing import BinaryIO

from mrharmony.scans.file_checks import GZIP_MAGIC
from mrharmony.scans.findings import ScanFault, error, warning
from mrharmony.volume import Finding

CHUNK_BYTES = 1 << 16
"""Read at once. Small, because each member's end copies what was read beyond it."""

PIECE_BYTES = 1 << 20
"""Decompressed at most at once, whatever the compression ratio: a bomb cannot fill the memory."""

MAX_RATIO = 1032
"""The highest compression ratio of deflate (zlib technical details: one bit for 129 bytes)."""


def decompress(stream: BinaryIO, findings: list[Finding]) -> Generator[bytes, None, None]:
    """Yield the content of a gzip stream in pieces of at most `PIECE_BYTES`.

    Several members, one after the other, are one content (RFC 1952, section 2.2); zero padding after
    the last is ignored, as gzip does.

    Parameters
    ----------
    stream
        Opened at the first gzip member.
    findings
        Where a harmless fault is noted: foreign bytes after the last member.

    Raises
    ------
    ScanFault
        The stream ends early, or its content contradicts its checksum or length.
    """
    rest = yield from _decompress_member(b"", stream)
    while rest := _skip_padding(rest, stream):
        if not GZIP_MAGIC.startswith(rest[:2]):
            findings.append(
                warning(
                    "gzip-trailing-bytes",
                    "Foreign bytes follow the compressed data, which itself is complete.",
                    "Copy the file again if you did not expect that.",
                )
            )
            return
        rest = yield from _decompress_member(rest, stream)


def _skip_padding(rest: bytes, stream: BinaryIO) -> bytes:
    """Return what follows the zero bytes, or nothing at the end of the file."""
    rest = rest.lstrip(b"\0")
    while not rest and (more := stream.read(CHUNK_BYTES)):
        rest = more.lstrip(b"\0")
    return rest


def _decompress_member(pending: bytes, stream: BinaryIO) -> Generator[bytes, None, bytes]:
    """Yield one member's content; return the bytes that were read beyond its end."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    while not inflater.eof:
        pending = pending or stream.read(CHUNK_BYTES)
        if not pending:
            raise ScanFault(
                error(
                    "truncated-gzip",
                    "The compressed file ends too early: it was cut off.",
                    "Copy or download it again.",
                )
            )
        try:
            piece = inflater.decompress(pending, PIECE_BYTES)
        except zlib.error as failure:
            raise ScanFault(
                error(
                    "corrupt-gzip",
                    f"The compressed data are damaged ({_reason(failure)}).",
                    "Copy or download it again.",
                )
            ) from failure
        pending = inflater.unconsumed_tail
        if piece:
            yield piece
    return inflater.unused_data


def _reason(failure: zlib.error) -> str:
    """Return zlib's own words without its error number: `incorrect data check`."""
    return str(failure).rpartition(": ")[2]
