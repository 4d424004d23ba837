import pytest

from stm_skeletons.errors import SinkError
from stm_skeletons.files import atomic_folder, atomic_write, make_folder, sha256


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out.txt"
    with atomic_write(target) as partial:
        partial.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"

    def fail() -> None:
        with atomic_write(target) as partial:
            partial.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_a_folder_is_replaced_only_when_complete(tmp_path):
    target = tmp_path / "deep" / "bundle"
    for content in ("first", "second"):
        with atomic_folder(target) as partial:
            (partial / "file").write_text(content)
        assert (target / "file").read_text() == content

    def fail() -> None:
        with atomic_folder(target) as partial:
            (partial / "file").write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert (target / "file").read_text() == "second"
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]


def test_unwritable_paths_raise_a_sink_error(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for target in (tmp_path, tmp_path / "missing" / "out", file / "out"):
        with pytest.raises(SinkError), atomic_write(target) as partial:
            partial.write_text("x")
    with pytest.raises(SinkError), atomic_folder(file):
        pass


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_folder_is_made_with_its_parents_or_refused_in_one_line(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot make the folder") as caught:
        make_folder(tmp_path / "file" / "out")
    assert "\n" not in str(caught.value)
