"""Teachers: trained, kept, found again for just their data and split; their logits belong to their views."""

import numpy as np
import pytest
import torch

from hkbench.config import cache_dir
from hkbench.data.augment import ViewPolicy, apply_views, sample_views
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.errors import UsageError
from hkbench.training import teacher as teachers
from hkbench.training.logits import open_logits, teacher_logits
from hkbench.training.teacher import TeacherRecipe, find_teacher, load_teacher, train_teacher

CPU = torch.device("cpu")
RECIPE = TeacherRecipe(model="household_s", image_size=32, max_epochs=3, patience=3, batch_size=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    pictures = rng.integers(0, 90, (90, 3, 32, 32), dtype=np.uint8)
    pictures[np.arange(90), labels] += 150
    return PictureStore(
        path=tmp_path_factory.mktemp("store"),
        key="key",
        size=32,
        pictures=pictures,
        labels=labels,
        classes=("a", "b", "c"),
        ids=tuple(map(str, range(90))),
        groups=None,
        rejected=(),
        fingerprint="fingerprint",
    )


@pytest.fixture(scope="module")
def split():
    parts = np.split(np.arange(90), [66, 81])
    return Split(scheme="random", seed=0, hash="split", train=parts[0], validation=parts[1], test=parts[2])


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


def test_logits_are_of_the_very_views_that_students_see(teacher, store, split):
    views = sample_views(2, len(split.train), 3, ViewPolicy())
    logits = open_logits(teacher_logits(teacher, store, split, views, device=CPU))
    assert logits.shape == (2, len(split.train), 3)
    assert logits.dtype == np.float16
    network = teacher.network()
    for view, row in ((0, 0), (1, 5), (1, 65)):
        picture = torch.from_numpy(store.pictures[split.train[row : row + 1]])
        parameters = torch.from_numpy(views.parameters[view, row : row + 1])
        with torch.inference_mode():
            expected = network(apply_views(picture, parameters)).numpy()
        np.testing.assert_allclose(logits[view, row : row + 1], expected, atol=0.02, rtol=0.01)


def test_logits_are_made_once_and_again_when_they_are_damaged(teacher, store, split, caplog):
    views = sample_views(1, len(split.train), 4, ViewPolicy())
    told = []

    def advance(done, total):
        told.append((done, total))

    path = teacher_logits(teacher, store, split, views, device=CPU, advance=advance)
    assert told[-1] == (len(split.train), len(split.train))
    whole, told[:] = path.read_bytes(), []
    assert teacher_logits(teacher, store, split, views, device=CPU, advance=advance) == path
    assert told == []
    path.write_bytes(whole[:100])
    teacher_logits(teacher, store, split, views, device=CPU, advance=advance)
    assert told
    assert path.read_bytes() == whole


def test_the_shipped_teacher_is_small_and_good_and_says_what_it_was_trained_on():
    (folder,) = teachers.shipped_folder().glob("*/")
    shipped = load_teacher(folder, shipped=True)
    record = shipped.record
    assert shipped.weights.stat().st_size <= 8_000_000
    assert folder.name == teachers.teacher_key(record.recipe, record.fingerprint, record.split_hash)
    assert record.validation["accuracy"] > 0.9
    assert len(record.classes) == 69
    assert str(cache_dir()) not in (folder / "teacher.json").read_text()
