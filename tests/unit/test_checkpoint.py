"""Checkpoints: whole or not at all, checked when they are restored, and one writer a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from dataplane import Lake
from dataplane.checkpoint import Checkpoints, Progress, Trained, open_model, publish
from dataplane.errors import CommitConflict, CorruptObject, NotFound
from dataplane.objects import digest_bytes
from dataplane.refs import Digest
from dataplane.upkeep import verify_lake

_PHOTOS = Trained("photos", 7, "id-of-the-commit")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.init(str(tmp_path / "lake"))


def progress(step: int, loss: float = 0.5) -> Progress:
    rows = [{"step": step, "loss": loss}]
    return Progress(step, 1, 10 * step, _PHOTOS, {"epoch": 1}, {"epochs": 3}, {"scaler": {}}, {"train_loss": loss}, rows)


def parts(step: int) -> dict[str, bytes]:
    return {"model": b"weights %d" % step, "optimizer": b"momentum %d" % step}


def damage(lake: Lake, ref: Digest) -> None:
    Path(lake.url, ref.path).write_bytes(b"x" * ref.size)


def test_what_was_saved_is_restored(lake: Lake) -> None:
    saved = Checkpoints(lake, "run").save(parts(1), progress(1))
    restored = Checkpoints(lake, "run").restore()
    assert restored.checkpoint == saved
    assert saved.progress == progress(1)
    assert {name: bytes(data) for name, data in restored.ranks[0].items()} == parts(1)
    assert (saved.number, saved.parent, restored.damaged) == (1, None, ())
    assert str(saved) == "checkpoint 1 of run (step 1)"


def test_every_rank_brings_its_own_parts(lake: Lake) -> None:
    writer = Checkpoints(lake, "run")
    ranks = [writer.write({"random": b"of rank %d" % rank}) for rank in range(3)]
    writer.commit(ranks, progress(1))
    restored = Checkpoints(lake, "run").restore()
    assert [bytes(parts["random"]) for parts in restored.ranks] == [b"of rank 0", b"of rank 1", b"of rank 2"]


def test_history_keeps_all_and_names_parents(lake: Lake) -> None:
    writer = Checkpoints(lake, "run")
    first = writer.save(parts(1), progress(1))
    writer.evaluated(first.number, _PHOTOS, "test", 90, {"accuracy": 0.5, "loss": 1.5})
    second = writer.save(parts(2), progress(2))
    assert [(c.number, c.parent) for c in writer.history()] == [(1, None), (3, 1)]
    assert writer.latest() == second
    [evaluation] = writer.evaluations()
    assert (evaluation.checkpoint, evaluation.samples, evaluation.metrics) == (1, 90, {"accuracy": 0.5, "loss": 1.5})
    assert Checkpoints(lake, "run").restore(1).checkpoint == first


def test_a_damaged_newest_checkpoint_falls_back_loudly(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    writer = Checkpoints(lake, "run")
    good, bad = (writer.save(parts(step), progress(step)) for step in (1, 2))
    damage(lake, bad.ranks[0]["optimizer"])
    resumed = Checkpoints(lake, "run")
    with caplog.at_level(logging.WARNING):
        restored = resumed.restore()
    assert restored.checkpoint == good
    assert str(bad.ranks[0]["optimizer"].path) in caplog.text
    assert "checkpoint 2 of run" in restored.damaged[0]
    assert resumed.save(parts(3), progress(3)).parent == good.number


def test_the_parent_is_the_checkpoint_that_was_agreed_on(lake: Lake) -> None:
    writer = Checkpoints(lake, "run")
    first, _ = (writer.save(parts(step), progress(step)) for step in (1, 2))
    resumed = Checkpoints(lake, "run")
    resumed.restore()
    resumed.restore(first.number)  # the second is damaged where another rank reads it
    assert resumed.save(parts(3), progress(3)).parent == first.number


def test_a_missing_part_and_a_damaged_commit_fall_back_too(lake: Lake) -> None:
    writer = Checkpoints(lake, "run")
    first, second, third = (writer.save(parts(step), progress(step)) for step in (1, 2, 3))
    Path(lake.url, second.ranks[0]["model"].path).unlink()
    Path(lake.url, writer.log.path(third.number)).write_bytes(b"{}")
    restored = Checkpoints(lake, "run").restore()
    assert restored.checkpoint == first
    assert len(restored.damaged) == 2
    with pytest.raises(CorruptObject, match="move it out of the lake to go on from the checkpoint before it"):
        writer.check_appendable()
    Path(lake.url, writer.log.path(third.number)).unlink()
    resumed = Checkpoints(lake, "run")
    resumed.check_appendable()
    resumed.restore()
    assert resumed.save(parts(4), progress(4)).parent == first.number


def test_no_good_checkpoint_and_none_at_all_are_errors(lake: Lake) -> None:
    with pytest.raises(NotFound, match="has no checkpoints"):
        Checkpoints(lake, "run").restore()
    writer = Checkpoints(lake, "run")
    saved = writer.save(parts(1), progress(1))
    evaluation = writer.evaluated(1, _PHOTOS, "test", 1, {})
    damage(lake, saved.ranks[0]["model"])
    with pytest.raises(CorruptObject, match="no good checkpoint left"):
        Checkpoints(lake, "run").restore()
    with pytest.raises(CorruptObject, match="is damaged"):
        Checkpoints(lake, "run").restore(saved.number)
    with pytest.raises(NotFound, match="has no entry 9; it has 1 to 2"):
        Checkpoints(lake, "run").restore(9)
    with pytest.raises(NotFound, match="is an evaluation, not a checkpoint"):
        Checkpoints(lake, "run").restore(evaluation.number)


def test_a_run_has_one_writer(lake: Lake) -> None:
    mine = Checkpoints(lake, "run")
    mine.save(parts(1), progress(1))
    with pytest.raises(CommitConflict, match="has a checkpoint 1 that this process has not made"):
        Checkpoints(lake, "run").save(parts(2), progress(2))
    other = Checkpoints(lake, "run")
    other.restore()
    other.save(parts(2), progress(2))
    with pytest.raises(CommitConflict, match="has a checkpoint 2"):
        mine.save(parts(3), progress(3))


def test_a_part_that_is_not_there_is_not_committed(lake: Lake) -> None:
    writer = Checkpoints(lake, "run")
    with pytest.raises(NotFound):
        writer.commit([{"model": digest_bytes(b"never written", ".safetensors")}], progress(1))
    [(name, ref)] = writer.write({"model": b"cut short"}).items()
    Path(lake.url, ref.path).write_bytes(b"cut")
    with pytest.raises(CorruptObject, match="has 3 bytes instead of 9"):
        writer.commit([{name: ref}], progress(1))
    assert writer.history() == []


def test_writing_the_same_part_again_mends_it(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    writer = Checkpoints(lake, "run")
    saved = writer.save(parts(1), progress(1))
    damage(lake, saved.ranks[0]["model"])
    writer.save(parts(1), progress(2))
    assert "written anew" in caplog.text
    assert verify_lake(lake).ok


def test_a_loss_that_is_no_number_is_null(lake: Lake) -> None:
    saved = Checkpoints(lake, "run").save(parts(1), progress(1, loss=float("nan")))
    assert saved.progress.metrics == {"train_loss": None}
    assert saved.progress.rows == [{"step": 1, "loss": None}]


def test_checkpoints_in_an_object_store(s3: Any) -> None:
    lake = Lake.init(s3.url())
    writer = Checkpoints(lake, "run")
    saved = writer.save(parts(1), progress(1))
    assert writer.write(parts(1)) == saved.ranks[0]
    restored = Checkpoints(lake, "run").restore()
    assert restored.checkpoint == saved
    assert bytes(restored.ranks[0]["model"]) == parts(1)["model"]
    assert verify_lake(lake).ok


def test_verify_reads_the_parts(lake: Lake) -> None:
    saved = Checkpoints(lake, "run").save(parts(1), progress(1))
    report = verify_lake(lake)
    assert report.ok
    assert report.objects == 2
    damage(lake, saved.ranks[0]["model"])
    assert [problem.object for problem in verify_lake(lake).problems] == [saved.ranks[0]["model"].path]


def test_models_are_versioned_and_name_their_origin(lake: Lake) -> None:
    network, weights = lake.objects.put(b"graph", suffix=".pt2"), lake.objects.put(b"weights", suffix=".safetensors")
    with pytest.raises(NotFound, match="has no model 'digits'; it has: none yet"):
        open_model(lake, "digits")
    versions = [
        publish(
            lake,
            "digits",
            network=network,
            weights=weights,
            transform=[{"op": "ToFloat"}],
            classes=("a", "b"),
            run="run",
            checkpoint=checkpoint,
            dataset=_PHOTOS,
            config={"epochs": 1},
            metrics={"accuracy": 0.5},
        )
        for checkpoint in (1, 4)
    ]
    assert [str(model) for model in versions] == ["digits@1", "digits@2"]
    assert open_model(lake, "digits") == versions[1]
    assert open_model(lake, "digits@1") == versions[0]
    assert (versions[0].network, versions[0].weights, versions[0].dataset) == (network, weights, _PHOTOS)
    for spec in ("digits@3", "digits@prod"):
        with pytest.raises(NotFound, match="it has 1 to 2"):
            open_model(lake, spec)


def test_a_record_of_before_bad_samples_were_told_is_read() -> None:
    body = progress(3).to_json()
    assert (body.pop("bad"), body.pop("bad_count")) == ([], 0)
    assert Progress.from_json(body).bad == ()
