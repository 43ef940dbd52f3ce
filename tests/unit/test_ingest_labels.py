"""Labels come from folders, a table or names; a file without one is told why."""

import pytest

from dataplane.errors import BadSample, InvalidArgument, NotFound
from dataplane.ingest.labels import Table, label_file, labels_from, one_group


def refused(labels, path):
    with pytest.raises(BadSample) as caught:
        labels(path, path.rsplit(".", 1)[0])
    return str(caught.value)


def test_none():
    assert labels_from(None) is None


def test_the_first_folder_is_the_label_as_in_imagefolder():
    labels = labels_from("folder")
    assert labels("cat/1.jpg", "cat/1") == "cat"
    assert labels("cat/indoors/1.jpg", "cat/indoors/1") == "cat"
    assert refused(labels, "1.jpg") == "no folder to take the label from"


def test_names():
    labels = labels_from(r"name:n\d+_(.+)\.jpg")
    assert labels("n01514859_hen.jpg", "n01514859_hen") == "hen"
    assert labels("birds/n01514859_hen.jpg", "") == "hen"
    assert "does not match" in refused(labels, "hen.jpg")
    assert labels_from(r"name:(\d+)_(?P<label>\w+)\.")("7_hen.jpg", "") == "hen"
    assert "does not match" in refused(labels_from(r"name:_(.*)\.jpg"), "7_.jpg")


@pytest.mark.parametrize("spec", ["name:(", "name:abc", "name:", "csv:", "folders", "", "name"])
def test_wrong_specs(spec):
    with pytest.raises(InvalidArgument):
        labels_from(spec)


def test_a_pattern_needs_a_group():
    with pytest.raises(InvalidArgument, match="parentheses"):
        one_group("abc", name="group", option="--group-by ")


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na/1.jpg,cat\nb/2,dog\n",
        "label;FileName\ncat;a/1.jpg\ndog;./b/2\n",
        "key\tx\tcategory\n a/1.jpg\t0\t cat\nb/2\t1\tdog",
        "a/1.jpg,cat\r\nb/2,dog\r\n",
        '\ufeffpath,class\n"a/1.jpg","cat"\n\nb/2,dog\n',
    ],
)
def test_tables(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
    labels = labels_from(f"csv:{tmp_path}/labels.csv")
    assert labels("a/1.jpg", "a/1") == "cat"
    assert labels("b/2.png", "b/2") == "dog"
    assert "has no row" in refused(labels, "c.jpg")
    assert labels.note() is None


def test_rows_that_contradict_or_are_empty_or_name_nothing(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na,cat\na,dog\nb,\nc,cat\nc,cat\nd,x\ne,x\nf,x\ng,x\n")
    labels = Table(str(tmp_path / "labels.csv"))
    assert refused(labels, "a.jpg").endswith("gives it 2, 'cat' and 'dog'")
    assert "empty" in refused(labels, "b.jpg")
    assert labels("c.jpg", "c") == "cat"
    assert labels.note() == f"rows of {tmp_path}/labels.csv that name no file of the source: 'd', 'e', 'f' and 1 more"


@pytest.mark.parametrize(
    "raw", [b"", b"a,b,c\n1,2,3\n", b"path,label\na\n", b"path,label\n\xff,x\n", b"path,size\na,1\n", b"path,label\n" + b"a" * 200_000]
)
def test_wrong_tables(tmp_path, raw):
    (tmp_path / "labels.csv").write_bytes(raw)
    with pytest.raises(InvalidArgument, match=r"labels\.csv"):
        labels_from(f"csv:{tmp_path}/labels.csv")


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(NotFound):
        labels_from(f"csv:{tmp_path}/labels.csv")


def test_which_file_the_labels_lie_in():
    assert label_file("csv:a/b.csv") == "a/b.csv"
    assert label_file("folder") is None
    assert label_file(None) is None


def test_no_credential_of_its_url_is_told(tmp_path):
    file = tmp_path / "token=abc"
    file.write_text("path,label\na.jpg,cat\n")
    table = Table(f"file://{file}")
    assert "token=***" in refused(table, "b.jpg")
    assert "token=***" in table.note()
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match=r"token=\*\*\*: the file is not UTF-8"):
        Table(f"file://{file}")
