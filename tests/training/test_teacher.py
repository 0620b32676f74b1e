"""Teachers: trained, kept, found again for just their data and split."""

import pytest
import torch
from training_fakes import bright_pictures, three_parts

from hkbench.config import cache_dir
from hkbench.errors import UsageError
from hkbench.models.entry import ModelEntry
from hkbench.training import teacher as teachers
from hkbench.training.given_teacher import open_teacher
from hkbench.training.teacher import TeacherRecipe, find_teacher, load_teacher
from hkbench.training.teaching import train_teacher

CPU = torch.device("cpu")
RECIPE = TeacherRecipe(model="household_s", image_size=32, max_epochs=3, patience=3, batch_size=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return bright_pictures(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def split():
    return three_parts()


@pytest.fixture(scope="module")
def teacher(store, split):
    return train_teacher(RECIPE, store, split, device=CPU)


def test_a_teacher_is_found_again_for_its_own_data_and_split_alone(teacher, store, split):
    found = find_teacher(RECIPE, store.fingerprint, split.hash)
    assert found.record == teacher.record
    assert not found.shipped
    assert find_teacher(RECIPE, store.fingerprint, "another split") is None
    assert find_teacher(RECIPE, "other pictures", split.hash) is None
    assert find_teacher(RECIPE.model_copy(update={"seed": 1}), store.fingerprint, split.hash) is None


def test_a_teacher_keeps_the_best_epochs_weights_and_metrics(teacher, store, split):
    best = max(teacher.record.epochs, key=lambda row: row.metrics["accuracy"])
    assert teacher.record.best_epoch == best.epoch
    assert teacher.record.validation == best.metrics
    assert teacher.weights.stat().st_size < 2 * 40_000 + 20_000
    assert not (teacher.weights.parent / "checkpoint.pt").exists()


def test_a_stopped_teacher_goes_on_where_it_was(teacher, store, split, tmp_path):
    class StopError(Exception):
        pass

    def stop(result):
        if result.epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train_teacher(RECIPE, store, split, device=CPU, folder=tmp_path, on_epoch=stop)
    trained = []
    resumed = train_teacher(
        RECIPE, store, split, device=CPU, folder=tmp_path, on_epoch=lambda r: trained.append(r.epoch)
    )
    assert trained == [3]
    unbroken = [(row.epoch, row.train_loss) for row in teacher.record.epochs]
    assert [(row.epoch, row.train_loss) for row in resumed.record.epochs] == unbroken
    assert resumed.record.sha256 == teacher.record.sha256


def test_a_teacher_that_was_changed_is_refused(teacher, tmp_path):
    for name in ("teacher.json", "model.safetensors"):
        (tmp_path / name).write_bytes((teacher.weights.parent / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UsageError, match="is not the file that"):
        load_teacher(tmp_path)


def test_the_shipped_teacher_is_small_and_good_and_says_what_it_was_trained_on():
    (folder,) = teachers.shipped_folder().glob("*/")
    shipped = load_teacher(folder, shipped=True)
    record = shipped.record
    assert shipped.weights.stat().st_size <= 8_000_000
    assert folder.name == teachers.teacher_key(record.recipe, record.fingerprint, record.split_hash)
    assert record.validation["accuracy"] > 0.9
    assert len(record.classes) == 69
    assert str(cache_dir()) not in (folder / "teacher.json").read_text()


def test_a_teacher_from_nothing_is_not_found_once_weights_are_there(store, split, monkeypatch):
    recipe = RECIPE.model_copy(update={"model": "squeezenet1_1"})
    before = teachers.teacher_key(recipe, store.fingerprint, split.hash)
    monkeypatch.setattr(ModelEntry, "has_imagenet_weights", True)
    assert teachers.teacher_key(recipe, store.fingerprint, split.hash) != before
    from_nothing = recipe.model_copy(update={"weights": "none"})
    assert teachers.teacher_key(from_nothing, store.fingerprint, split.hash) == before


def test_a_kept_teacher_is_opened_by_its_folder(teacher, store, split):
    folder = teacher.weights.parent
    found = open_teacher(folder, classes=store.classes, split_hashes=[split.hash])
    assert found.record == teacher.record
    with pytest.raises(UsageError, match="knows other classes"):
        open_teacher(folder, classes=("x", "y"), split_hashes=[split.hash])
    with pytest.raises(UsageError, match="was trained on another split"):
        open_teacher(folder, classes=store.classes, split_hashes=["another"])


def test_a_folder_without_a_teacher_is_refused(tmp_path, store, split):
    with pytest.raises(UsageError, match=r"neither teacher\.json nor model\.json"):
        open_teacher(tmp_path, classes=store.classes, split_hashes=[split.hash])
