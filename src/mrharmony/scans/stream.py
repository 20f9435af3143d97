"""The content of a scan file as one forward stream of bytes.

Path, suffix and first bytes are checked before; gzip is decompressed to its very last byte, so that checksum
and length of every member are verified.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from isal import isal_zlib

from mrharmony.core.findings import Finding, error, fault, warning
from mrharmony.core.pointers import FETCH, is_pointer, link_to_itself
from mrharmony.scans.folders import DICOM_INSTEAD, closed_folder, entries_of
from mrharmony.scans.names import COMPRESSED_SUFFIXES, SCAN_SUFFIXES, scan_suffix

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 16  # read at once: small, since each gzip member's end copies what was read beyond it
PIECE_BYTES = 1 << 20  # decompressed at most at once, whatever the ratio: a bomb cannot fill the memory
MAX_RATIO = 1032  # the highest ratio of deflate (zlib technical details: one bit for 129 bytes)
SPLIT_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")


class Storage(NamedTuple):
    """What holds the content of a scan."""

    size: int  # bytes, on the disk or in memory
    compressed: bool = False

    @property
    def capacity(self) -> int:
        """The most bytes of content that it can hold: a header that claims more is refused."""
        return self.size * (MAX_RATIO if self.compressed else 1)


def storage_of(path: Path) -> Storage:
    """Return how a scan file stores its content, by its name."""
    return Storage(path.stat().st_size, scan_suffix(path) in COMPRESSED_SUFFIXES)


def check_file(path: Path) -> Iterator[Finding]:
    """Find out whether a path cannot be a scan at all: absent, not a file, empty, or of an unknown kind."""
    try:
        status = path.stat()
    except (OSError, ValueError) as failure:
        yield _stat_finding(path, failure)
        return
    if stat.S_ISDIR(status.st_mode):
        yield _folder_finding(path)
    elif not stat.S_ISREG(status.st_mode):
        yield error("not-a-file", "This is a device or a pipe, not a file.", "Store the scan in a file.")
    elif status.st_size == 0:
        yield error("empty-file", "The file is empty.", "Copy or convert it again.")
    else:
        yield from _check_suffix(path)


def _folder_finding(path: Path) -> Finding:
    try:
        entries_of(path)
    except OSError as failure:
        return closed_folder(path.name, failure)
    fix = f"Name the scans inside it; {DICOM_INSTEAD}"
    return error("is-directory", "This is a folder, not a scan.", fix)


def _stat_finding(path: Path, failure: Exception) -> Finding:
    if isinstance(failure, OSError) and (loop := link_to_itself(path)):
        return error(
            "link-to-itself", f"{loop} is a link that leads to itself.", "Name the file that it stands for."
        )
    if isinstance(failure, FileNotFoundError) and path.is_symlink():
        return error(
            "broken-link",
            "The link points to a file that is not here.",
            FETCH,
        )
    if isinstance(failure, FileNotFoundError | NotADirectoryError | ValueError):
        return error("missing-file", "There is no such file.", "Check the path for a typing mistake.")
    return unreadable(failure)


def unreadable(failure: Exception) -> Finding:
    """Return the finding for a file that the operating system does not let us read."""
    if isinstance(failure, PermissionError):
        return error(
            "unreadable", "You are not permitted to read it.", "Ask its owner, or `chmod +r` the file."
        )
    reason = getattr(failure, "strerror", None) or failure
    return error("unreadable", f"It cannot be read ({reason}).", "Check the disk, or copy the file again.")


def _check_suffix(path: Path) -> Iterator[Finding]:
    if scan_suffix(path) is not None:
        return
    if path.name.lower().endswith(SPLIT_SUFFIXES):
        yield error(
            "split-image",
            "Header and voxels are in two files (.hdr and .img).",
            "Convert the pair to one .nii.gz, for instance with `mrconvert` or nibabel.",
        )
    else:
        yield error(
            "unknown-suffix",
            f"The file name ends in none of {', '.join(SCAN_SUFFIXES)}.",
            "Convert it first: DICOM with `dcm2niix`, other formats with `mrconvert`.",
        )


def check_first_bytes(path: Path, start: bytes) -> None:
    """Raise `ScanFault` where a scan's first bytes (64 or fewer) belie its name."""
    if is_pointer(start):
        raise fault(
            "content-missing",
            "The file is a git-annex or Git LFS pointer; the scan itself is not here.",
            FETCH,
        )
    suffix = scan_suffix(path)
    compressed = start.startswith(GZIP_MAGIC)
    if compressed == (suffix in COMPRESSED_SUFFIXES):
        return
    twin = {".nii": ".nii.gz", ".nii.gz": ".nii", ".mgh": ".mgz", ".mgz": ".mgh"}[suffix or ".nii"]
    state = "is gzip-compressed" if compressed else "is not gzip-compressed"
    raise fault(
        "compression-mismatch",
        f"The name ends in {suffix}, but the content {state}.",
        f"If it is a scan, copy or link it under a name that ends in {twin}; otherwise fetch it again.",
    )


def decompress(stream: BinaryIO | HashedFile, findings: list[Finding]) -> Generator[bytes, None, None]:
    """Yield the content of a gzip stream in pieces of at most `PIECE_BYTES`.

    Several members, one after the other, are one content (RFC 1952, section 2.2); zero padding after the last
    is ignored, as gzip does; foreign bytes there are noted in `findings`. `ScanFault` where the stream ends
    early, or its content contradicts its checksum or length.
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


def _skip_padding(rest: bytes, stream: BinaryIO | HashedFile) -> bytes:
    """Return what follows the zero bytes, or nothing at the end of the file."""
    rest = rest.lstrip(b"\0")
    while not rest and (more := stream.read(CHUNK_BYTES)):
        rest = more.lstrip(b"\0")
    return rest


def _decompress_member(pending: bytes, stream: BinaryIO | HashedFile) -> Generator[bytes, None, bytes]:
    """Yield one member's content; return the bytes that were read beyond its end."""
    inflater = isal_zlib.decompressobj(wbits=isal_zlib.MAX_WBITS | 16)
    while not inflater.eof:
        pending = pending or stream.read(CHUNK_BYTES)
        if not pending:
            raise fault(
                "truncated-gzip",
                "The compressed file ends too early: it was cut off.",
                "Copy or download it again.",
            )
        try:
            piece = inflater.decompress(pending, PIECE_BYTES)
        except isal_zlib.error as failure:  # type: ignore[misc]  # a class, unlike in isal's stub
            raise fault(
                "corrupt-gzip",
                f"The compressed data are damaged ({_reason(failure)}).",
                "Copy or download it again.",
            ) from failure
        pending = inflater.unconsumed_tail
        if piece:
            yield piece
    return inflater.unused_data


def _reason(failure: Exception) -> str:
    """Return what is wrong with compressed data: isal's words without its error number."""
    words = str(failure).split(" ", 2)[-1]
    wrong_end = words == "Incorrect checksum found"  # said of the length of the content too
    return "incorrect data check or length check" if wrong_end else words[:1].lower() + words[1:]


class HashedFile:
    """A file that is hashed as it is read, so that the hash is that of the bytes that were used."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes."""
        piece = self._stream.read(size)
        self._digest.update(piece)
        return piece

    def sha256(self) -> str:
        """Read on to the end of the file and return the SHA-256 of all of it, hexadecimal."""
        while self.read(PIECE_BYTES):
            pass
        return self._digest.hexdigest()


class ByteSource:
    """Bytes that are read once, from first to last."""

    def __init__(self, pieces: Iterator[bytes], file: HashedFile | None = None) -> None:
        """Take the content in order, in non-empty pieces, and the file that it comes from if there is one."""
        self._pieces = pieces
        self.file = file
        self._rest = memoryview(b"")
        self.position = 0

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or raise `ScanFault` where the content has fewer."""
        parts: list[memoryview] = []
        missing = size
        while missing:
            part = self._next_part(missing)
            if not part:
                raise fault(
                    "truncated-data",
                    f"The content ends after {self.position:,} bytes, before all voxels were read.",
                    "Copy, download or convert the scan again.",
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
    """Open a scan file for one pass; harmless faults of its compression are noted in `findings` on the way.

    Raises `ScanFault` where the first bytes belie the name or, while reading, compressed data are damaged.
    """
    with path.open("rb") as stream:
        check_first_bytes(path, stream.read(64))
        stream.seek(0)
        file = HashedFile(stream)
        compressed = scan_suffix(path) in COMPRESSED_SUFFIXES
        pieces = decompress(file, findings) if compressed else iter(partial(file.read, PIECE_BYTES), b"")
        yield ByteSource(pieces, file)
