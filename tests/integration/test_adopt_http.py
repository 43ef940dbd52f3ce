"""Adopting tars, Parquet and Zarr from a web server: a plain one, and ones that lack or overlook what others have."""

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.storage import ZipStore

from benchmarks.servers import nginx
from dataplane import Lake
from dataplane.adopt import AdoptOptions, adopt
from dataplane.errors import BadSources, CorruptObject, InvalidArgument, NotFound, PermissionDenied, SourceChanged, StoreError

pytestmark = pytest.mark.skipif(
    shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is None, reason="nginx is not installed"
)

LOCATIONS = """
location /unmarked/ { alias ROOT/files/; etag off; }
location /whole/ { alias ROOT/files/; max_ranges 0; }
location /forbidden/ { return 403; }
location /moved/ { rewrite ^/moved/(.*)$ /files/$1 redirect; }
location ~ ^/heedless/(.*)$ { proxy_pass http://127.0.0.1:$server_port/files/$1; proxy_set_header If-Match ""; }
location ~ ^/fickle/(.*)$ {
    set $folder files;
    if (-f ROOT/fickle) { set $folder whole; }
    proxy_pass http://127.0.0.1:$server_port/$folder/$1;
}
location ~ ^/headless/(.*)$ {
    if ($request_method = HEAD) { return 405; }
    proxy_pass http://127.0.0.1:$server_port/files/$1;
}
location ~ ^/shut/(.*)$ {
    set $asked $request_method;
    if (-f ROOT/shut) { set $asked "$asked while shut"; }
    if ($asked = "GET while shut") { return 403; }
    proxy_pass http://127.0.0.1:$server_port/files/$1;
}
location ~ ^/weak/(.*)$ {
    proxy_pass http://127.0.0.1:$server_port/files/$1;
    proxy_hide_header ETag;
    add_header ETag W/$upstream_http_etag;
}
"""
"""The same files: without etags, without ranges, forbidden, redirected, behind a front that drops If-Match, with
ranges until there is a file `fickle`, to GET only, to HEAD only while there is a file `shut`, and with weak etags."""


class Web:
    """A server and the folder `files` that it serves."""

    def __init__(self, url, folder, scratch):
        self.url, self.folder, self._scratch, self._clock = url, folder, scratch, 1_000_000_000

    def write(self, name, data):
        """Write a file whole; each time is a second later, as the etags of web servers have it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._clock += 1
        os.utime(path, (self._clock, self._clock))

    def sent(self):
        """Bytes of files so far; the last answer may not be in the log yet."""
        rows = [line.split() for line in (self._scratch / "access.log").read_text().splitlines()]
        return sum(int(count) for _, status, count in rows if status == "206")


@pytest.fixture
def web(tmp_path):
    folder = tmp_path / "www" / "files"
    folder.mkdir(parents=True)
    scratch = tmp_path / "nginx"
    with nginx(tmp_path / "www", scratch, locations=LOCATIONS.replace("ROOT", str(tmp_path / "www"))) as url:
        yield Web(url, folder, scratch)


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def tar(samples):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for key, fields in samples.items():
            for name, data in fields.items():
                member = tarfile.TarInfo(f"{key}.{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def photographs(number, *, count=8, size=60_000, seed=0):
    """Samples of one tar: the keys are those of its number, the bytes those of the seed."""
    rng = np.random.default_rng([number, seed])
    return {f"{number:03d}-{n}": {"cls": b"%d" % n, "jpg": rng.bytes(size)} for n in range(count)}


def read(lake, name="d"):
    dataset = lake.dataset(name)
    return {sample.key: dict(sample.fields) for split in dataset.splits for sample in dataset[split]}


def test_tars_that_braces_name(web, lake):
    tars = [photographs(number) for number in range(7)]
    for number, samples in enumerate(tars):
        web.write(f"x-{number:03d}.tar", tar(samples))
    made = {key: fields for samples in tars for key, fields in samples.items()}
    source = f"{web.url}/files/x-{{000..008}}.tar"
    result = adopt(lake, source, "d")
    assert (result.samples, result.shards, result.notes) == (56, 7, ())
    assert [(bad.source, bad.reason) for bad in result.bad] == [(f"{web.url}/files/x-00{n}.tar", "it does not exist") for n in (7, 8)]
    assert web.sent() <= result.bytes_read < sum(path.stat().st_size for path in web.folder.iterdir()) // 4
    assert read(lake) == made
    train = lake.dataset("d")["train"]
    some = [55, 3, 20, 21, 0]
    assert [dict(sample.fields) for sample in train.read_many(some)] == [list(made.values())[n] for n in some]
    again = adopt(lake, source, "d")
    assert (again.committed, again.kept, again.bytes_read) == (False, 7, 0)
    web.write("x-007.tar", tar(photographs(7)))
    more = adopt(lake, source, "d")
    assert (more.added, more.kept, more.samples) == (1, 7, 64)


def test_labels_from_a_field(web, lake):
    for number in range(2):
        web.write(f"x-{number}.tar", tar(photographs(number)))
    result = adopt(lake, f"{web.url}/files/x-{{0,1}}.tar", "d", options=AdoptOptions(label_from_field="cls"))
    assert web.sent() <= result.bytes_read  # with the photographs between the labels
    assert result.bytes_read > 600_000
    assert lake.dataset("d").metadata(["label"]).column("label").to_pylist() == 2 * [str(n) for n in range(8)]


def test_a_compressed_tar(web, lake):
    samples = photographs(0)
    web.write("x.tar.gz", gzip.compress(tar(samples)))
    assert adopt(lake, f"{web.url}/files/x.tar.gz", "d").samples == 8
    assert read(lake) == samples


def test_parquet_and_zarr_in_a_zip_file(web, lake, tmp_path):
    sink = io.BytesIO()
    pq.write_table(pa.table({"key": [f"k{n}" for n in range(10)], "n": range(10)}), sink, row_group_size=3)
    web.write("t-0.parquet", sink.getvalue())
    result = adopt(lake, f"{web.url}/files/t-{{0..0}}.parquet", "t", options=AdoptOptions(key="key", columns=("n",)))
    assert result.samples == 10
    assert web.sent() <= result.bytes_read
    assert {key: fields["n"] for key, fields in read(lake, "t").items()} == {f"k{n}": n for n in range(10)}
    data = np.random.default_rng(0).integers(0, 255, (6, 8, 8), np.uint8)
    with ZipStore(tmp_path / "v.zip", mode="w") as store:
        zarr.create_array(store, data=data, chunks=(2, 8, 8))
    web.write("v.zip", (tmp_path / "v.zip").read_bytes())
    assert adopt(lake, f"{web.url}/files/v.zip", "z").samples == 6
    assert all(np.array_equal(next(iter(fields.values())), data[n]) for n, fields in enumerate(read(lake, "z").values()))
    web.write("t-0.parquet", sink.getvalue()[:-8] + b"\0\0\0\0PAR1")
    with pytest.raises(SourceChanged, match=r"t-0\.parquet has changed"):
        read(lake, "t")


@pytest.mark.parametrize("folder", ["files", "moved", "heedless", "weak"])
def test_a_file_that_changed_is_an_error_until_it_is_adopted_again(web, lake, folder):
    before, after = photographs(0), photographs(0, seed=1)
    web.write("x.tar", tar(before))
    source = f"{web.url}/{folder}/x.tar"
    assert adopt(lake, source, "d").notes == ()
    assert read(lake) == before
    web.write("x.tar", tar(after))
    with pytest.raises(SourceChanged, match=rf"/{folder}/x\.tar has changed.*adopt it again"):
        read(lake)
    result = adopt(lake, source, "d")
    assert (result.replaced, result.bad) == (1, ())
    assert read(lake) == after
    (web.folder / "x.tar").unlink()
    with pytest.raises(NotFound, match=rf"/{folder}/x\.tar: this adopted object is gone"):
        read(lake)


def test_a_file_that_changes_while_it_is_adopted_is_left_out_and_taken_the_next_time(web, lake):
    stays, before, after = photographs(0), photographs(1), photographs(1, seed=1)
    web.write("x-0.tar", tar(stays))
    web.write("x-1.tar", tar(before))
    source = f"{web.url}/files/x-{{0..1}}.tar"

    def overwrite(progress):  # it has been listed by then
        if progress.stage == "scanning" and progress.objects == 0:
            web.write("x-1.tar", tar(after))

    (bad,) = adopt(lake, source, "d", watch=overwrite).bad
    assert bad.source == f"{web.url}/files/x-1.tar"
    assert "has changed" in bad.reason
    assert read(lake) == stays
    assert adopt(lake, source, "d").bad == ()
    assert read(lake) == stays | after


def test_without_etags_size_is_all_that_tells_of_a_change_unless_it_was_verified(web, lake):
    before, after = photographs(0), photographs(0, seed=1)
    web.write("x.tar", tar(before))
    source = f"{web.url}/unmarked/x.tar"
    (note,) = adopt(lake, source, "d").notes
    assert "no ETag" in note
    assert "--verify" in note
    assert read(lake) == before
    adopt(lake, source, "verified", options=AdoptOptions(verify=True))
    assert read(lake, "verified") == before
    web.write("x.tar", tar(after))
    assert read(lake) == after  # what the note warns of
    with pytest.raises(CorruptObject, match=r"/unmarked/x\.tar"):
        read(lake, "verified")
    web.write("x.tar", tar(photographs(0, count=9)))
    for name in ("d", "verified"):
        with pytest.raises(SourceChanged, match=r"/unmarked/x\.tar has changed: it has \d+ bytes"):
            read(lake, name)


def test_a_server_without_ranges_is_refused(web, lake):
    web.write("x.tar", tar(photographs(0)))
    with pytest.raises(BadSources, match="nothing was committed") as caught:
        adopt(lake, f"{web.url}/whole/x.tar", "d")
    (bad,) = caught.value.bad
    assert bad.source == f"{web.url}/whole/x.tar"
    assert "byte ranges" in bad.reason


def test_a_server_that_forgets_ranges_later_gives_an_error_and_no_wrong_bytes(web, lake):
    samples = photographs(0)
    web.write("x.tar", tar(samples))
    adopt(lake, f"{web.url}/fickle/x.tar", "d")
    assert read(lake) == samples
    (web.folder.parent / "fickle").touch()
    with pytest.raises(StoreError, match=r"/fickle/x\.tar: this server sends objects whole only"):
        read(lake)


def test_what_is_missing_or_forbidden(web, lake):
    samples = photographs(0)
    web.write("x.tar", tar(samples))
    with pytest.raises(NotFound, match=r"/files/y\.tar does not exist.*name the files"):
        adopt(lake, f"{web.url}/files/y.tar", "d")
    with pytest.raises(PermissionDenied, match=r"/forbidden/x\.tar: access denied.*403"):
        adopt(lake, f"{web.url}/forbidden/x.tar", "d")
    result = adopt(lake, f"{web.url}/{{files,forbidden}}/{{x,y}}.tar", "d")
    told = {bad.source.removeprefix(web.url): bad.reason for bad in result.bad}
    assert list(told) == ["/files/y.tar", "/forbidden/x.tar", "/forbidden/y.tar"]
    assert told["/files/y.tar"] == "it does not exist"
    assert told["/forbidden/x.tar"].startswith("access denied")
    assert read(lake) == samples


def test_what_was_refused_is_looked_at_again(web, lake):
    tars = [photographs(number) for number in range(2)]
    web.write("x-0.tar", tar(tars[0]))
    source = f"{web.url}/shut/x-{{0..1}}.tar"
    assert adopt(lake, source, "d").samples == 8
    web.write("x-1.tar", tar(tars[1]))
    web.write("x-2.tar", tar(photographs(2)))
    (web.folder.parent / "shut").touch()
    (bad,) = adopt(lake, f"{web.url}/{{files/x-2,shut/x-1}}.tar", "d").bad  # the list is committed
    assert "access denied" in bad.reason
    (web.folder.parent / "shut").unlink()
    assert adopt(lake, source, "d").bad == ()
    assert set(tars[1]) < set(read(lake))


def test_a_server_that_answers_get_only(web, lake):
    samples = photographs(0)
    web.write("x.tar", tar(samples))
    result = adopt(lake, f"{web.url}/headless/{{x,y}}.tar", "d")
    assert [(bad.source, bad.reason) for bad in result.bad] == [(f"{web.url}/headless/y.tar", "it does not exist")]
    assert read(lake) == samples


@pytest.mark.parametrize("path", ["", "files/*.tar", "files/**"])
def test_a_web_server_that_lists_nothing_says_so(web, lake, path):
    web.write("x.tar", tar(photographs(0)))
    with pytest.raises(InvalidArgument, match="does not list what it holds; name the files, with braces"):
        adopt(lake, f"{web.url}/{path}", "d")


def test_pythons_own_server_has_neither_ranges_nor_a_listing(tmp_path, lake):
    (tmp_path / "x.tar").write_bytes(tar(photographs(0)))
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            url = re.search(r"http://[0-9.:]+", server.stdout.readline())[0]
            with pytest.raises(BadSources) as caught:
                adopt(lake, f"{url}/x.tar", "d")
            with pytest.raises(InvalidArgument, match="does not list what it holds"):  # it answers 501, which is tried again for seconds
                adopt(lake, f"{url}/*.tar", "d")
        finally:
            server.terminate()
    assert ["byte ranges" in bad.reason for bad in caught.value.bad] == [True]


def test_names_are_written_as_in_a_browser(web, lake):
    tars = {"a b.tar": photographs(0), "é%20#?.tar": photographs(1), "{x}.tar": photographs(2)}
    for name, samples in tars.items():
        web.write(f"folder+ é/{name}", tar(samples))
    folder = f"{web.url}/files/folder+%20%C3%A9"
    for number, name in enumerate(["a%20b.tar", "%C3%A9%2520%23%3F.tar", "%7Bx%7D.tar"]):
        assert adopt(lake, f"{folder}/{name}", "d").added == 1
        assert len(read(lake)) == 8 * (number + 1)
    assert read(lake) == {key: fields for samples in tars.values() for key, fields in samples.items()}
    assert not adopt(lake, f"{web.url}/files/folder+ é/a b.tar", "d").committed


@pytest.mark.parametrize("end", ["?token=abc", "?X-Amz-Signature=abc", "#part"])
def test_an_address_that_does_not_stay_is_refused_and_its_secret_not_shown(web, lake, end):
    web.write("x.tar", tar(photographs(0)))
    with pytest.raises(InvalidArgument, match="query or a fragment") as caught:
        adopt(lake, f"{web.url}/files/x.tar{end}", "d")
    assert "abc" not in str(caught.value)


def test_a_password_in_an_address_is_refused_and_not_shown(web, lake):
    with pytest.raises(InvalidArgument, match="not sent") as caught:
        adopt(lake, f"{web.url.replace('//', '//user:abc@')}/files/x.tar", "d")
    assert "abc" not in str(caught.value)


def test_a_page_instead_of_a_tar_is_no_tar(web, lake):
    web.write("x.tar", b"<!doctype html><title>Log in</title>" + b" " * 5000)
    with pytest.raises(BadSources) as caught:
        adopt(lake, f"{web.url}/files/x.tar", "d")
    assert [bad.reason for bad in caught.value.bad] == ["neither a tar nor a Parquet file nor Zarr"]
