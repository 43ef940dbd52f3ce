"""Local writes are durable, shown by the system calls they make: write, fsync, link, fsync of the folder."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.folders import write_folder

CALL = re.compile(r"^(?:(?P<thread>\d+)\s+)?(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+)")
CALLS = "write,fsync,linkat,renameat,renameat2,rename,mkdir,mkdirat,unlink,unlinkat"


@pytest.fixture
def traced(tmp_path):
    """Run code in a process of its own; its system calls below the test's folder, in order, and on request the thread of each."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")

    def run(code, threads=None):
        out = tmp_path.parent / f"{tmp_path.name}.strace"
        command = ["strace", "-f", "-y", "-s", "16", "-e", f"trace={CALLS}", "-o", str(out), sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if "ptrace" in done.stderr.lower() or "operation not permitted" in done.stderr.lower():
            pytest.skip("this machine lets nobody trace")
        assert done.returncode == 0, done.stderr
        found = [match for line in _whole(out.read_text().splitlines()) if (match := CALL.match(line)) and str(tmp_path) in line]
        done = [match for match in found if match["result"] != "-1"]
        if threads is not None:
            threads.extend(match["thread"] for match in done)
        return [_describe(match, tmp_path) for match in done]

    return run


def _whole(lines):
    """The lines of strace, with those put together again that another thread's call has cut in two. They stand where the call ended."""
    begun = {}
    for line in lines:
        thread = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>").rstrip()
        elif "resumed>" in line:
            yield begun.pop(thread, "") + line.split("resumed>", 1)[1]
        else:
            yield line


def _describe(match, top):
    """A call, with what it was about relative to `top`; unnamed and temporary files are "file"."""
    text = match["arguments"].replace(str(top), "")
    if match["name"] in {"write", "fsync"}:
        about = re.match(r"\d+<([^>]*)>", text)[1]
        return match["name"], "file" if "#" in about or ".tmp/" in about or "deleted" in about else about or "/"
    if match["name"] == "linkat":
        folder, name = re.search(r"\d+<([^>]*)>, \"([^\"]*)\", AT_SYMLINK_FOLLOW", text).groups()
        return "link", f"{folder}/{name}"
    if match["name"].startswith("rename"):
        return "rename", re.findall(r"\"([^\"]*)\"", text)[-1]
    return match["name"], re.findall(r"\"([^\"]*)\"", text)[-1]


def put(folder, path, mode):
    return f"from dataplane.store import open_store; open_store({str(folder)!r}).put({path!r}, b'0123456789', mode={mode!r})"


def test_a_new_object(traced, tmp_path):
    (tmp_path / "lake").mkdir()
    calls = [call for call in traced(put(tmp_path / "lake", "objects/ab/x.tar", "create")) if call[0] != "mkdir"]
    assert calls == [
        ("write", "file"),
        ("fsync", "file"),
        ("link", "/lake/objects/ab/x.tar"),
        ("fsync", "/lake/objects/ab"),  # the name of the object
        ("fsync", "/lake/objects"),  # the names of the folders that lead to it
        ("fsync", "/lake"),
        ("fsync", "/"),
    ]


def test_a_new_root_below_new_folders(traced, tmp_path):
    calls = traced(put(tmp_path / "some" / "new" / "lake", "x", "create"))
    assert [about for name, about in calls if name == "mkdir"] != []
    assert [call for call in calls if call[0] != "mkdir"][-4:] == [
        ("fsync", "/some/new/lake"),
        ("fsync", "/some/new"),
        ("fsync", "/some"),
        ("fsync", "/"),
    ]


def test_a_draft(traced, tmp_path):
    """It is written in blocks, in another thread, and has no name before all of it is durable."""
    (tmp_path / "lake").mkdir()
    code = (
        f"from dataplane.store import open_store; draft = open_store({str(tmp_path / 'lake')!r}).draft(); "
        "[draft.write(bytes(700_000)) for _ in range(9)]; draft.finish(); draft.publish('objects/ab/x.tar'); draft.close()"
    )
    calls = [call for call in traced(code) if call[0] != "mkdir"]
    assert calls == [
        *[("write", "file")] * 4,
        ("fsync", "file"),
        ("link", "/lake/objects/ab/x.tar"),
        ("fsync", "/lake/objects/ab"),
        ("fsync", "/lake/objects"),
        ("fsync", "/lake"),
        ("fsync", "/"),
    ]


def test_an_ingest_acknowledges_what_is_durable(traced, tmp_path):
    """The journal names a shard when the shard's bytes and name are durable; the scratch folder has none of them."""
    lake, source = tmp_path / "lake", tmp_path / "pictures"
    write_folder(source, 6)
    code = (
        f"from dataplane.ingest import IngestOptions, ingest; ingest({str(lake)!r}, {str(source)!r}, 'pets', "
        "options=IngestOptions(check='structure', workers=1, shard_bytes=3000))"
    )
    threads = []
    calls = traced(code, threads)
    shards = [i for i, (name, about) in enumerate(calls) if name == "link" and about.endswith(".tar")]
    assert len(shards) > 1
    for i in shards:
        assert ("write", "file") in calls[:i]
        before = [call for call, thread in zip(calls[:i], threads, strict=False) if thread == threads[i] and call[0] != "mkdir"]
        assert before[-1] == ("fsync", "file")
        told = next(j for j, call in enumerate(calls[i:], i) if call[0] in {"rename", "link"} and call[1].startswith("/lake/writers/"))
        assert ("fsync", calls[i][1].rsplit("/", 1)[0]) in calls[i:told]


def test_a_name_that_is_taken_is_made_durable_before_it_is_told(traced, tmp_path):
    """Its writer may have been killed between its link and its fsync; who builds on it must not lose it."""
    code = put(tmp_path / "lake", "a/x", "create")
    traced(code)
    refused = code.replace("open_store(", "store = open_store(", 1).replace(".put(", "\ntry: store.put(") + "\nexcept FileExistsError: pass"
    calls = traced(refused)
    assert calls == [("fsync", "/lake/a"), ("fsync", "/lake"), ("fsync", "/")]


def test_an_object_that_is_replaced(traced, tmp_path):
    (tmp_path / "lake" / "a").mkdir(parents=True)
    calls = [call for call in traced(put(tmp_path / "lake", "a/x", None)) if call[0] not in {"mkdir", "unlink"}]
    assert calls[:4] == [("write", "file"), ("fsync", "file"), ("rename", "/lake/a/x"), ("fsync", "/lake/a")]


def test_a_commit_comes_after_its_objects(traced, tmp_path):
    code = f"from dataplane import Lake; from tests import make; make.dataset(Lake.init({str(tmp_path / 'lake')!r}), 'numbers', train=(2,))"
    calls = traced(f"import sys; sys.path.insert(0, {str(_root())!r}); {code}")
    links = [(i, about) for i, (name, about) in enumerate(calls) if name == "link"]
    commit = next(i for i, about in links if about.endswith("/datasets/numbers/log/00000000000000000001.json"))
    objects = [i for i, about in links if "/objects/" in about]
    assert len(objects) == 4
    for i, about in links:
        folder = about.rsplit("/", 1)[0]
        durable = next(j for j, call in enumerate(calls[i:], i) if call == ("fsync", folder))
        assert i == commit or "/objects/" not in about or durable < commit


def _root():
    import dataplane

    return dataplane.__path__[0] + "/.."
