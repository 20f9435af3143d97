"""Texts and arrays are written whole or not at all."""

from errno import EPERM, EROFS
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from mrharmony.core import tensors
from mrharmony.core.atomic import begin_json, read_json, require_writable, write_arrays, write_text
from mrharmony.core.findings import MrharmonyError


def test_arrays_come_back_under_their_names(tmp_path: Path):
    path = tmp_path / "new" / "brain.npz"
    voxels = np.arange(6, dtype=np.float16).reshape(1, 2, 3)
    write_arrays(path, {"voxels": voxels, "scale": 2.5})
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["voxels"], voxels)
        assert archive["voxels"].dtype == np.float16
        assert float(archive["scale"]) == 2.5


def test_text_is_written_in_utf8_whatever_the_locale(tmp_path: Path):
    write_text(tmp_path / "page.html", "σ × 2\n")
    assert (tmp_path / "page.html").read_bytes() == "σ × 2\n".encode()


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "brain.npz"
    write_arrays(path, {"voxels": np.zeros(3)})
    before = path.read_bytes()

    class Unreadable:
        def __array__(self, *args, **kwargs):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_arrays(path, {"voxels": np.ones(3), "mask": Unreadable()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_is_begun_by_the_first_and_stays(tmp_path: Path):
    path = tmp_path / "new" / "record.json"
    for number in (1, 2):
        begin_json(path, {"writer": number})
    assert read_json(path) == {"writer": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_record_can_be_begun_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    for number in (1, 2):
        begin_json(tmp_path / "record.json", {"writer": number})
    assert read_json(tmp_path / "record.json") == {"writer": 1}


def test_a_read_only_file_system_is_told_by_the_target_not_by_a_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(EROFS, "Read-only file system", str(self))

    # Such a system refuses to remove what is not there, too.
    for call in ("open", "unlink"):
        monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(MrharmonyError, match=r"record\.json: cannot be written \(Read-only file system\)"):
        begin_json(tmp_path / "record.json", {})


def test_a_folder_in_the_way_is_told_in_one_sentence(tmp_path: Path):
    (tmp_path / "brain.npz").mkdir()
    with pytest.raises(MrharmonyError, match=r"cannot be written .* A folder has this name; choose another"):
        write_arrays(tmp_path / "brain.npz", {"voxels": np.zeros(3)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["brain.npz"]


def test_a_link_to_nothing_in_the_way_is_told_as_such(tmp_path: Path):
    (tmp_path / "out").symlink_to("nowhere")
    for fail in (lambda: require_writable(tmp_path / "out"), lambda: write_text(tmp_path / "out" / "a", "")):
        with pytest.raises(MrharmonyError, match="out is a link to nothing; make the folder that it names"):
            fail()


@pytest.mark.parametrize("name", ["out", "out/below", "round"])
def test_a_link_that_leads_to_itself_is_told_as_such(tmp_path: Path, name: str):
    for link, target in (("out", "out"), ("round", "about"), ("about", "round")):
        (tmp_path / link).symlink_to(target)
    folder = tmp_path / name
    link = tmp_path / name.split("/", maxsplit=1)[0]
    for fail in (lambda: require_writable(folder), lambda: write_text(folder / "a", "")):
        with pytest.raises(MrharmonyError, match=f"{link} is a link that leads to itself; choose another"):
            fail()


def test_what_safetensors_leaves_of_itself_lies_in_a_temporary_folder(tmp_path: Path, monkeypatch):
    def killed(_, path: Path, **__: object) -> None:
        (path.parent / ".tmpabcdef").touch()
        assert path.parent.match(".mrharmony-*.tmp")
        raise SafetensorError("disk full")

    monkeypatch.setattr(tensors, "save_file", killed)
    with pytest.raises(MrharmonyError, match="disk full"):
        tensors.save_tensors(tmp_path / "a.safetensors", {"a": np.zeros(1)}, {})
    assert not list(tmp_path.iterdir())


def test_equal_tensors_and_records_have_equal_bytes(tmp_path: Path):
    records = {name: {"é": [1, "\n"]} for name in "fedcba"}
    written = []
    for number in range(8):
        path = tmp_path / f"{number}.safetensors"
        tensors.save_tensors(path, {"x": np.arange(3.0)}, records)
        written.append(path.read_bytes())
        with tensors.open_tensors(path, "a file", "write it again") as file:
            assert file.record("a", dict[str, list[int | str]]) == records["a"]
            assert file.tensor("x").tolist() == [0, 1, 2]
    assert len(set(written)) == 1
