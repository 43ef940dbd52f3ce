"""A scratch folder is private, goes at the end, and goes later where its process was killed; nothing else ever does."""

import fcntl
import os
import tempfile

from dataplane.ingest.scratch import scratch


def test_it_is_removed_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch() as one, scratch() as other:
        assert one != other
        assert one.parent == tmp_path
        (one / "shard.tar").write_bytes(b"x")
        assert one.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("dataplane-ingest-dead", "dataplane-ingest-alive", "dataplane-other", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    (tmp_path / "dataplane-ingest-file").write_bytes(b"x")
    (tmp_path / "dataplane-ingest-link").symlink_to("kept")
    alive = os.open(tmp_path / "dataplane-ingest-alive", os.O_RDONLY)
    fcntl.flock(alive, fcntl.LOCK_EX)
    with scratch():
        pass
    os.close(alive)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"dataplane-ingest-alive", "dataplane-other", "kept", "dataplane-ingest-file", "dataplane-ingest-link"}
    assert (tmp_path / "kept" / "file").read_bytes() == b"x"
