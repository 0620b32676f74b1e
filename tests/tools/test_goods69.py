"""goods69: the plan of a render, its reading of files, and the pictures that ship. No VTK."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # `tools` is not installed, so it is imported from the checkout
    sys.path.insert(0, str(ROOT))

from tools.goods69 import __main__ as command_line  # noqa: E402
from tools.goods69 import pack, picture, render, sheet, worker  # noqa: E402
from tools.goods69.catalogue import (  # noqa: E402
    Model,
    find_archives,
    models_by_class,
    parse_rotations,
    read_models,
)
from tools.goods69.counts import SCALES, Scale, class_counts, spread_evenly  # noqa: E402
from tools.goods69.errors import Goods69Error, RefusedModelError  # noqa: E402
from tools.goods69.overrides import (  # noqa: E402
    CLASS_LIMITS,
    EXCLUDED_MODELS,
    MODEL_LIMITS,
    MOVED_MODELS,
    allowed_views,
    corrected,
)
from tools.goods69.shards import Look, Shot, read_shard, write_shard  # noqa: E402
from tools.goods69.views import FULL_CIRCLE_DEG, ViewRange, draw_view  # noqa: E402
from tools.goods69.wavefront import read_mesh  # noqa: E402

DATA = ROOT / "hkbench" / "data" / "goods69"
PICTURES = DATA / "pictures.parquet"
LOOK = Look(seed=69, size_px=32, quality=80)
CUBE = np.ones(3)


def a_model(group: str = "Scopia/cup1", class_name: str = "cup") -> Model:
    catalogue, stem = group.split("/")
    return Model(
        class_name=class_name,
        catalogue=catalogue,
        model_path=f"scopia/{stem}/{stem}.obj",
        name="Cup",
        creator="Scopia",
        license="CC-BY-3.0",
    )


def webp_bytes(value: float = 0.5) -> bytes:
    return picture.encode(np.full((32, 32, 3), value, dtype=np.float32), 80)


# --- the list of models -------------------------------------------------------------------------


def test_models_cover_69_classes_with_three_models_each() -> None:
    by_class = models_by_class(corrected(read_models()))
    assert len(by_class) == 69
    assert min(len(members) for members in by_class.values()) >= 3


def test_corrections_name_models_and_classes_that_exist() -> None:
    models = read_models()
    groups = {model.group for model in models}
    classes = {model.class_name for model in models}
    assert groups >= {*MOVED_MODELS, *EXCLUDED_MODELS, *MODEL_LIMITS}
    assert classes >= {*CLASS_LIMITS, *(name for name, _ in MOVED_MODELS.values())}


def test_corrected_moves_and_drops_models() -> None:
    models = {model.group: model for model in corrected(read_models())}
    assert models["Scopia/islandBath"].class_name == "bathtub"
    assert not EXCLUDED_MODELS.keys() & models.keys()


def test_two_models_of_one_group_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.csv"
    header = "class,catalogue,model_path,name,creator,license\n"
    path.write_text(header + "cup,A,x/cup.obj,Cup,B,C\nmug,A,y/cup.obj,Mug,B,C\n")
    with pytest.raises(Goods69Error, match="A/cup"):
        read_models(path)


def test_rotations_are_read_by_model_path() -> None:
    text = (
        "model#1=/scopia/cup/cup.obj\nmodelRotation#1=1 0 0 0 0 1 0 -1 0\n"
        "model#2=/scopia/mug/mug.obj\nmodelRotation#3=1 0 0 0 1 0 0 0 1\n"
    )
    assert parse_rotations(text) == {"scopia/cup/cup.obj": ((1, 0, 0), (0, 0, 1), (0, -1, 0))}


@pytest.mark.parametrize("make_folder", [True, False])
def test_missing_catalogues_say_how_to_get_them(tmp_path: Path, make_folder: bool) -> None:
    folder = tmp_path / "models"
    if make_folder:
        folder.mkdir()
    with pytest.raises(Goods69Error, match=r"apt-get download .*dpkg -x .*--models") as caught:
        find_archives(folder, {"Scopia"})
    assert "\n" not in str(caught.value)


def test_archives_are_found_at_any_depth(tmp_path: Path) -> None:
    archive = tmp_path / "usr" / "share" / "Scopia.sh3f"
    archive.parent.mkdir(parents=True)
    archive.touch()
    assert find_archives(tmp_path, {"Scopia"}) == {"Scopia": archive}


# --- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_name", sorted(SCALES))
def test_class_counts_meet_the_scale_exactly(scale_name: str) -> None:
    scale = SCALES[scale_name]
    members = models_by_class(corrected(read_models()))
    models_per_class = {name: len(models) for name, models in members.items()}
    counts = class_counts(models_per_class, scale)
    assert sum(counts.values()) == scale.total
    assert min(counts.values()) == scale.smallest
    assert max(counts.values()) == scale.largest
    assert counts == class_counts(models_per_class, scale)
    views_per_model = [counts[name] / models_per_class[name] for name in counts]
    assert max(views_per_model) <= scale.largest / 5


def test_study_scale_is_the_studys() -> None:
    assert SCALES["study"] == Scale(total=104_461, smallest=578, largest=2_559)


def test_classes_with_more_models_mostly_get_more_pictures() -> None:
    models_per_class = {f"class {n}": n for n in range(3, 40)}
    counts = class_counts(models_per_class, Scale(total=6_000, smallest=100, largest=270))
    few = sum(counts[f"class {n}"] for n in range(3, 13))
    many = sum(counts[f"class {n}"] for n in range(30, 40))
    assert many > few
    assert list(counts.values()) != sorted(counts.values())


def test_a_scale_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        class_counts({"a": 3, "b": 4}, Scale(total=1_000, smallest=1, largest=10))


def test_views_are_spread_evenly() -> None:
    views = spread_evenly(11, ["c", "a", "b"])
    assert views == {"a": 4, "b": 4, "c": 3}


# --- views --------------------------------------------------------------------------------------


def test_a_view_depends_on_seed_group_and_index_alone() -> None:
    everywhere = ViewRange()
    view = draw_view(69, "Scopia/cup1", 5, everywhere)
    assert view == draw_view(69, "Scopia/cup1", 5, everywhere)
    assert view != draw_view(70, "Scopia/cup1", 5, everywhere)
    assert view != draw_view(69, "Scopia/cup2", 5, everywhere)
    assert view != draw_view(69, "Scopia/cup1", 6, everywhere)


def test_the_first_view_of_a_cup_stays_as_it_was() -> None:
    """Golden: renew with `draw_view(69, "Scopia/cup", 0, ViewRange())` and raise TOOL_VERSION."""
    view = draw_view(69, "Scopia/cup", 0, ViewRange())
    assert (view.azimuth_deg, view.elevation_deg, view.fill) == pytest.approx(
        (-133.901569, 9.211048, 0.676642), abs=1e-6
    )


def test_narrower_angles_leave_the_rest_of_a_view_alone() -> None:
    free = draw_view(69, "Scopia/cup1", 0, ViewRange())
    bound = draw_view(69, "Scopia/cup1", 0, ViewRange(azimuth_deg=(-10, 10)))
    assert -10 <= bound.azimuth_deg <= 10
    assert (free.elevation_deg, free.fill, free.background_top) == (
        bound.elevation_deg,
        bound.fill,
        bound.background_top,
    )


def test_views_keep_to_their_ranges_and_fill_them() -> None:
    views = [draw_view(69, "Scopia/cup1", index, ViewRange()) for index in range(500)]
    assert min(v.azimuth_deg for v in views) < -170
    assert max(v.azimuth_deg for v in views) > 170
    assert all(0 <= v.elevation_deg <= 45 and -8 <= v.roll_deg <= 8 for v in views)
    assert all(0.62 <= v.fill <= 0.93 for v in views)
    channels = [c for v in views for c in (*v.background_top, *v.background_bottom)]
    assert min(channels) > 0.65
    assert max(channels) <= 1


def test_limits_by_model_class_and_shape() -> None:
    assert allowed_views("cup", "Scopia/cup1", CUBE).azimuth_deg == FULL_CIRCLE_DEG
    sheet_of_paper = allowed_views("stationery", "Scopia/book", np.array([20.0, 0.1, 30.0]))
    assert sheet_of_paper.elevation_deg == (25, 65)
    panel = allowed_views("towel", "Scopia/towel3", np.array([1.0, 1.0, 0.05]))
    assert panel.azimuth_deg == (-60, 60)
    sideways_panel = allowed_views("towel", "Scopia/towel3", np.array([0.05, 1.0, 1.0]))
    assert sideways_panel.azimuth_deg == (30, 150)
    broom = allowed_views("hand tool", "Scopia/broom", np.array([0.1, 1.0, 0.1]))
    assert broom.azimuth_deg == FULL_CIRCLE_DEG
    hob = allowed_views("stove", "Scopia/hob", np.array([1.0, 0.01, 1.0]))
    assert (hob.azimuth_deg, hob.elevation_deg) == ((-75, 75), (25, 65))


# --- OBJ and MTL --------------------------------------------------------------------------------


def test_mesh_with_materials_spaces_and_other_case(tmp_path: Path) -> None:
    (tmp_path / "Wood Dark.JPG").touch()
    (tmp_path / "cup.mtl").write_text(
        "newmtl wood\nKd 0.1 0.2 0.3\nmap_Kd -s 1 1 1 wood dark.jpg\nnewmtl pane\nTr 0.75\n"
    )
    (tmp_path / "cup.obj").write_text(
        "mtllib CUP.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvn 0 0 1\n"
        "usemtl wood\nf 1/1/1 2/1/1 3/1/1 4/1/1\nusemtl pane\nf -4 -3 -2\nusemtl none\nf 1 2 3\n"
        "f 1 2\nf 1 2 99\n"
    )
    mesh = read_mesh(tmp_path / "cup.obj")
    wood, pane, unknown = mesh.parts
    assert wood.material.diffuse == (0.1, 0.2, 0.3)
    assert wood.material.texture == tmp_path / "Wood Dark.JPG"
    assert wood.offsets.tolist() == [0, 4]
    assert pane.material.opacity == 0.25
    assert pane.corners.tolist() == [[0, -1, -1], [1, -1, -1], [2, -1, -1]]
    assert unknown.offsets.tolist() == [0, 3]


def test_a_mesh_without_polygons_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cup.obj").write_text("v 0 0 0\n")
    with pytest.raises(RefusedModelError, match="no polygon"):
        read_mesh(tmp_path / "cup.obj")


# --- pictures -----------------------------------------------------------------------------------


def drawn_square(colour: float, side_px: int) -> np.ndarray:
    drawn = np.zeros((64, 64, 4), dtype=np.float32)
    drawn[:side_px, :side_px] = (colour, colour, colour, 1)
    return drawn


def test_empty_faint_and_tiny_objects_are_refused() -> None:
    view = draw_view(69, "Scopia/cup1", 0, ViewRange())
    behind = float(np.mean(view.background_top))
    assert picture.refusal(drawn_square(0.2, 40), view) is None
    assert picture.refusal(drawn_square(0.2, 0), view) == "nothing drawn"
    assert "of the picture" in str(picture.refusal(drawn_square(behind, 40), view))
    assert "of the picture" in str(picture.refusal(drawn_square(0.2, 3), view))


def test_reducing_averages_and_brightening_keeps_black_and_white() -> None:
    drawn = np.zeros((6, 6, 4), dtype=np.float32)
    drawn[::2] = 1
    assert picture.reduce(drawn, 2).shape == (3, 3, 4)
    assert np.allclose(picture.reduce(drawn, 2), 0.5)
    greys = np.array([[[0, 0, 0, 1], [0.25, 0.25, 0.25, 1], [1, 1, 1, 1]]], dtype=np.float32)
    bright = picture.brighten(greys)[0, :, 0]
    assert np.allclose(bright, [0, 0.25**0.8, 1])


# --- running workers ----------------------------------------------------------------------------


def settings(tmp_path: Path) -> render.Settings:
    return render.Settings(look=LOOK, unpacked=tmp_path, shards=tmp_path / "shards", jobs=2, timeout_s=10)


class FakeWorker:
    """Draws grey squares; the groups in `broken` fail."""

    def __init__(self, broken: dict[str, str] | None = None) -> None:
        self.broken = broken or {}
        self.calls: list[str] = []

    def __call__(self, with_settings: render.Settings, model: Model, count: int) -> str | None:
        self.calls.append(model.group)
        if model.group in self.broken:
            return self.broken[model.group]
        shots = [Shot(view_index=index, webp=webp_bytes()) for index in range(count)]
        write_shard(with_settings.shard_path(model), with_settings.look, shots, "fake")
        return None


CUPS = [a_model(f"Scopia/cup{n}") for n in range(4)]


def test_a_lost_models_views_go_to_its_class(tmp_path: Path) -> None:
    fake = FakeWorker({"Scopia/cup2": "crashed with SIGSEGV"})
    views, lost = render.render_all(CUPS, {"cup": 12}, settings(tmp_path), fake)
    assert lost == {"Scopia/cup2": "crashed with SIGSEGV"}
    assert views == {"Scopia/cup0": 4, "Scopia/cup1": 4, "Scopia/cup3": 4}


def test_a_finished_run_renders_nothing_again(tmp_path: Path) -> None:
    render.render_all(CUPS, {"cup": 12}, settings(tmp_path), FakeWorker())
    again = FakeWorker()
    render.render_all(CUPS, {"cup": 12}, settings(tmp_path), again)
    assert again.calls == []


def test_a_class_that_keeps_too_few_models_is_an_error(tmp_path: Path) -> None:
    fake = FakeWorker({"Scopia/cup1": "empty", "Scopia/cup2": "crashed"})
    with pytest.raises(Goods69Error, match="Scopia/cup1: empty; Scopia/cup2: crashed"):
        render.render_all(CUPS, {"cup": 12}, settings(tmp_path), fake)


def test_the_worker_reports_a_refusal_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("vtkmodules")
    model = a_model()
    obj = tmp_path / model.catalogue / model.model_path
    obj.parent.mkdir(parents=True)
    obj.write_text("v 0 0 0\n")
    assert render.run_worker(settings(tmp_path), model, 2) == "the OBJ file holds no polygon"


def test_shards_of_another_look_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "cup.parquet"
    write_shard(path, LOOK, [Shot(view_index=0, webp=b"x")], "fake")
    assert read_shard(path, LOOK) == [Shot(view_index=0, webp=b"x")]
    assert read_shard(path, Look(seed=1, size_px=32, quality=80)) == []
    assert not list(tmp_path.glob("*.tmp"))


def test_enough_tries_for_every_view() -> None:
    assert worker.tries_allowed(0) > 0
    assert worker.tries_allowed(33) >= 66


def test_without_vtk_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(command_line.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["goods69", "--models", str(tmp_path), "--out", str(tmp_path)])
    assert command_line.main() == 2
    assert "pip install -r tools/goods69/requirements.txt" in caplog.text


# --- packing ------------------------------------------------------------------------------------


def test_packed_file_holds_the_planned_rows_in_order(tmp_path: Path) -> None:
    views, _ = render.render_all(CUPS, {"cup": 10}, settings(tmp_path), FakeWorker())
    path = tmp_path / "pictures.parquet"
    assert pack.write_pictures(path, CUPS, views, tmp_path / "shards", LOOK) == 10
    table = pq.read_table(path)
    assert table["group"].to_pylist() == sorted(table["group"].to_pylist())
    assert table["image"][0].as_py()["path"] == "cup/Scopia-cup0-0000.webp"
    first = path.read_bytes()
    pack.write_pictures(path, CUPS, views, tmp_path / "shards", LOOK)
    assert path.read_bytes() == first
    sheet.write_sheet(tmp_path / "sheet.png", path)
    assert (tmp_path / "sheet.png").stat().st_size > 0


# --- what ships ---------------------------------------------------------------------------------

shipped = pytest.mark.skipif(not PICTURES.exists(), reason="the pictures are not in this checkout")


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pq.read_table(PICTURES)


@shipped
def test_shipped_file_is_small_and_complete(table: pa.Table) -> None:
    assert PICTURES.stat().st_size <= 20_000_000
    assert table.num_rows == SCALES["shipped"].total
    counts = Counter(table["class_name"].to_pylist())
    assert len(counts) == 69
    assert min(counts.values()) >= 100
    assert len(set(counts.values())) > 20
    groups = set(zip(table["class_name"].to_pylist(), table["group"].to_pylist(), strict=True))
    assert min(Counter(name for name, _ in groups).values()) >= 3
    assert len(groups) == len({group for _, group in groups})


@shipped
def test_shipped_columns_and_metadata(table: pa.Table) -> None:
    names = sorted(set(table["class_name"].to_pylist()))
    look = Look(seed=69, size_px=128, quality=85)
    assert table.schema.equals(pack.schema(names, look, "any"))
    metadata = table.schema.metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": names, "_type": "ClassLabel"}
    assert metadata[b"goods69.seed"] == b"69"
    assert metadata[b"goods69.renderer"].startswith(b"VTK ")
    labels = table["label"].to_pylist()
    assert [names[label] for label in labels] == table["class_name"].to_pylist()


@shipped
def test_shipped_pictures_decode_and_are_not_flat(table: pa.Table) -> None:
    paths, contents = set(), set()
    for index, row in enumerate(table["image"].to_pylist()):
        paths.add(row["path"])
        contents.add(row["bytes"])
        if index % 11 == 0:
            with Image.open(io.BytesIO(row["bytes"])) as image:
                assert (image.format, image.mode, image.size) == ("WEBP", "RGB", (128, 128))
                assert np.asarray(image).std() > 3
    assert len(paths) == len(contents) == table.num_rows


@shipped
def test_every_shipped_group_is_credited(table: pa.Table) -> None:
    with (DATA / "credits.csv").open(encoding="utf-8", newline="") as file:
        credit = {row["group"]: row for row in csv.DictReader(file)}
    shown = dict(zip(table["group"].to_pylist(), table["license"].to_pylist(), strict=True))
    assert credit.keys() == shown.keys()
    assert all(credit[group]["license"] == license_name for group, license_name in shown.items())
    assert all(row["creator"] and row["name"] for row in credit.values())


@shipped
def test_card_states_the_checksum_and_every_class(table: pa.Table) -> None:
    card = (DATA / "README.md").read_text(encoding="utf-8")
    assert pack.sha256(PICTURES) in card
    for name, count in Counter(table["class_name"].to_pylist()).items():
        assert f"| {name} |" in card
        assert f"| {count} |" in card
