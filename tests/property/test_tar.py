"""Member names, for any key: short, ASCII, distinct, and split by every reader where we mean it."""

import re
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.formats import tar
from dataplane.formats.index import read_index

# As webdataset's `base_plus_ext` splits a member name.
SPLIT = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150)
nasty = st.text("._%/~ aé\n", min_size=1, max_size=150)
keys = st.one_of(text, nasty)
patient = settings(deadline=None)


@patient
@given(keys, st.sampled_from(["jpg", "cls", "seg.png"]))
def test_a_name_is_short_plain_and_split_where_we_mean_it(key, extension):
    name = tar.member_name(key, extension)
    assert len(name) <= 100
    assert name.isascii()
    assert name.isprintable()
    base, ext = SPLIT.match(name).groups()
    assert ext == extension
    assert not any(part.startswith("__") for part in base.split("/"))


@patient
@given(st.lists(keys, min_size=2, max_size=20, unique=True))
def test_distinct_keys_have_distinct_names(some):
    assert len({tar.member_name(key, "jpg") for key in some}) == len(some)


@patient
@given(st.dictionaries(keys, st.dictionaries(st.sampled_from(["jpg", "cls", "txt"]), st.binary(max_size=1200), min_size=1), max_size=8))
def test_python_reads_what_we_wrote(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("tar") / "shard.tar"
    with tar.Writer(path) as writer:
        for key, fields in samples.items():
            writer.add(key, fields)
        ref, raw = writer.finish()
    index = read_index(raw, where="index")
    data = path.read_bytes()
    assert ref.size == len(data)
    with tarfile.open(path) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    assert members == {tar.member_name(key, name): value for key, fields in samples.items() for name, value in fields.items()}
    for row, (key, fields) in enumerate(samples.items()):
        assert index.key(row) == key
        placed = index.placed(row)
        assert {name: data[p.offset : p.offset + p.size] for name, p in placed.items()} == fields


@patient
@given(keys)
def test_the_fields_of_a_sample_share_a_base(key):
    bases = {tar.member_name(key, extension).removesuffix(f".{extension}") for extension in ("cls", "webp", "seg.png", "x" * 15)}
    assert len(bases) == 1
