"""What is put into files comes back as it was, or not at all."""

from pathlib import Path

import pytest

from dataflow.spool import Spool


def test_bytes_come_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    one, two = spool.put("00000/1", b"one"), spool.put("00000/2", b"")
    assert (one.read(), two.read(), one.read()) == (b"one", b"", b"one")


@pytest.mark.parametrize("found", [b"", b"onE", b"one "])
def test_a_file_that_was_changed_is_not_believed(found: bytes, tmp_path: Path) -> None:
    spooled = Spool(tmp_path / "spool").put("1", b"one")
    (tmp_path / "spool" / "1").write_bytes(found)
    with pytest.raises(RuntimeError, match="changed by somebody else"):
        spooled.read()


def test_what_is_dropped_is_gone(tmp_path: Path) -> None:
    spooled = Spool(tmp_path / "spool").put("1", b"one")
    spooled.drop()
    spooled.drop()
    assert not [*(tmp_path / "spool").iterdir()]


def test_a_new_run_begins_with_nothing(tmp_path: Path) -> None:
    Spool(tmp_path / "spool").put("1", b"one")
    Spool(tmp_path / "spool")
    assert not (tmp_path / "spool").exists()
