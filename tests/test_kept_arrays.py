"""Arrays that are kept for the next run: read back as written, and damage is told with file and remedy."""

from pathlib import Path

import numpy as np
import pytest

from mrharmony.core.atomic import kept_arrays, write_arrays
from mrharmony.core.findings import MrharmonyError

WRITTEN = np.arange(1000, dtype=np.float32)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "kept.npz"
    write_arrays(path, {"brain": WRITTEN})
    return path


def test_what_was_written_is_read(kept: Path):
    with kept_arrays(kept, "Call again.") as archive:
        assert np.array_equal(archive["brain"], WRITTEN)


def test_a_folder_of_kept_arrays_may_move_but_none_takes_the_name_of_another(kept: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    moved = kept.rename(tmp_path / "elsewhere" / kept.name)
    with kept_arrays(moved, "Call again.") as archive:
        assert np.array_equal(archive["brain"], WRITTEN)
    other = moved.rename(moved.with_name("other.npz"))
    with (
        pytest.raises(MrharmonyError, match=r"other\.npz: was damaged\."),
        kept_arrays(other, "was damaged."),
    ):
        pass


@pytest.mark.parametrize(
    "damage", ["gone", "empty", "cut", "a flipped bit", "another array", "another shape"]
)
def test_damage_is_told_with_file_and_remedy(kept: Path, damage: str):
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    pieces = {"empty": b"", "cut": kept.read_bytes()[:-100], "flipped bit": bytes(content)}
    if damage in pieces:
        kept.write_bytes(pieces[damage])
    elif damage == "gone":
        kept.unlink()
    else:
        name = "other" if damage == "another array" else "brain"
        write_arrays(kept, {name: WRITTEN[:-1]})
    with (
        pytest.raises(MrharmonyError, match=r"kept\.npz: was damaged\. Call again\."),
        kept_arrays(kept, "was damaged. Call again.") as archive,
    ):
        np.zeros(WRITTEN.size)[:] = archive["brain"]
