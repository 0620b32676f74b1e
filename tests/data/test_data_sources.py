import pickle
import shutil
from pathlib import Path

import pytest
from pictures_on_disk import CLASSES, class_folders, encoded, write_parquet

from hkbench.data import goods69
from hkbench.data.parquet import open_parquet
from hkbench.data.sources import DATASETS, open_source
from hkbench.errors import HkbenchError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "shop")


def test_a_folder_is_read_by_class(folder: Path) -> None:
    source = open_source(str(folder))
    assert source.classes == CLASSES
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert source.ids[4] == "lamp/product0_0.png"
    assert source.groups is None
    assert source.read(4) == encoded(1_000)


def test_ids_are_unique_in_nested_folders_and_hidden_files_are_left_out(folder: Path) -> None:
    (folder / "lamp" / "old").mkdir()
    (folder / "lamp" / "old" / "product0_0.JPG").write_bytes(encoded(1, file_format="JPEG"))
    (folder / "lamp" / "._product0_0.png").write_bytes(b"resource fork")
    (folder / ".cache").mkdir()
    source = open_source(str(folder))
    assert len(set(source.ids)) == 13
    assert "lamp/old/product0_0.JPG" in source.ids


def test_files_that_are_no_pictures_are_named_in_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "lamp" / "prices.csv").write_text("1")
    assert len(open_source(str(folder)).ids) == 12
    assert "prices.csv" in caplog.text


def test_the_reader_crosses_a_process_border(folder: Path) -> None:
    source = open_source(str(folder))
    assert pickle.loads(pickle.dumps(source.read))(0) == source.read(0)


def test_the_fingerprint_follows_content_and_class_not_place(folder: Path, tmp_path: Path) -> None:
    before = open_source(str(folder)).fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    assert open_source(str(tmp_path / "copy")).fingerprint == before

    (folder / "lamp" / "product0_0.png").write_bytes(encoded(99))
    changed = open_source(str(folder)).fingerprint
    assert changed != before

    (folder / "lamp" / "product0_0.png").rename(folder / "sofa" / "moved.png")
    assert open_source(str(folder)).fingerprint not in (before, changed)


def test_groups_by_pattern_belong_to_their_class(folder: Path) -> None:
    groups = open_source(str(folder), r"(product\d)_\d+").groups
    assert groups is not None
    assert groups[:3] == ("chair/product0", "chair/product0", "chair/product1")
    assert groups[4] == "lamp/product0"


def test_groups_by_subfolder(folder: Path) -> None:
    for name in CLASSES:
        for path in list((folder / name).iterdir()):
            product = folder / name / path.name.partition("_")[0]
            product.mkdir(exist_ok=True)
            path.rename(product / path.name)
    groups = open_source(str(folder), "subfolder").groups
    assert groups is not None
    assert sorted(set(groups))[:3] == ["chair/product0", "chair/product1", "chair/product2"]


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'goods69'"):
        open_source("goods96")


@pytest.mark.parametrize("kept", [(), ("lamp",)])
def test_too_few_classes_are_refused(folder: Path, kept: tuple[str, ...]) -> None:
    for name in set(CLASSES) - set(kept):
        shutil.rmtree(folder / name)
    with pytest.raises(UsageError, match=rf"has {len(kept)} class folder.*2 or more"):
        open_source(str(folder))


@pytest.mark.parametrize("left", [0, 2])
def test_a_class_with_too_few_pictures_is_named(folder: Path, left: int) -> None:
    for path in sorted((folder / "lamp").iterdir())[left:]:
        path.unlink()
    with pytest.raises(UsageError, match=rf"lamp has {left or 'no'} picture.*3 or more"):
        open_source(str(folder))


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        (r"product\d", "0 capture groups"),
        (r"(product)(\d)", "2 capture groups"),
        (r"(product", "neither 'subfolder' nor a regular expression"),
        (r"(article\d)_", "doesn't match the file name of chair/product0_0.png"),
        (r"product(\d)?\w*x?|(?!)", "doesn't match"),
        ("subfolder", "chair/product0_0.png lies in the class folder itself"),
    ],
)
def test_a_group_rule_that_does_not_fit_is_refused(folder: Path, group_by: str, message: str) -> None:
    (folder / "chair" / "product_.png").write_bytes(encoded(5))
    with pytest.raises(UsageError, match=message):
        open_source(str(folder), group_by)


def test_a_named_data_set_takes_no_group_rule() -> None:
    with pytest.raises(UsageError, match="brings its own groups"):
        open_source("goods69", "subfolder")


def test_a_parquet_file_is_read_row_by_row_in_any_order(tmp_path: Path) -> None:
    contents = write_parquet(tmp_path / "p.parquet")
    source = open_parquet(tmp_path / "p.parquet", "goods69")
    assert source.classes == CLASSES
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert source.ids[5] == "lamp/0005.webp"
    assert source.groups is not None
    assert source.groups[5] == "lamp-2"
    read = pickle.loads(pickle.dumps(source.read))
    assert [read(index) for index in (11, 0, 5, 4, 6)] == [contents[index] for index in (11, 0, 5, 4, 6)]


def test_a_parquet_fingerprint_follows_its_content(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    write_parquet(tmp_path / "b.parquet")
    write_parquet(tmp_path / "c.parquet", per_class=5)
    a, b, c = (open_parquet(tmp_path / f"{name}.parquet", "x").fingerprint for name in "abc")
    assert a == b != c


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(HkbenchError, match=r"p\.parquet can't be read"):
        open_parquet(path, "goods69")


def test_goods69_opens_or_says_how_to_render_it() -> None:
    assert "goods69" in DATASETS
    if (Path(goods69.__file__).parent / goods69.FILE).is_file():
        source = open_source("goods69")
        assert len(source.classes) == 69
        assert len(set(source.ids)) == len(source.labels)
        assert source.read(0)
    else:
        with pytest.raises(HkbenchError, match=r"python -m tools\.goods69"):
            open_source("goods69")
