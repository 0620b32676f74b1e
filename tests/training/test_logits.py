"""Teacher logits: of the very views that students see, made once, and held against the teacher itself."""

import numpy as np
import pytest
import torch
from training_fakes import bright_pictures, three_parts

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.data.render import plain, render_views
from hkbench.store import blocks, journal
from hkbench.training.ahead import open_ahead
from hkbench.training.logits import TeacherPass
from hkbench.training.teacher import TeacherRecipe
from hkbench.training.teaching import train_teacher

CPU = torch.device("cpu")
RECIPE = TeacherRecipe(model="household_s", image_size=32, max_epochs=2, patience=3, batch_size=8)
SMALLER = RECIPE.model_copy(update={"model": "baseline_cnn", "image_size": 16})


@pytest.fixture(scope="module")
def split():
    return three_parts()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {size: bright_pictures(folder, size=size) for size in (16, 32)}


@pytest.fixture(scope="module")
def teachers(stores, split):
    return [
        train_teacher(recipe, stores[recipe.image_size], split, device=CPU) for recipe in (RECIPE, SMALLER)
    ]


def table(split, views=2, seed=3, **policy):
    return sample_views(views, len(split.train), seed, ViewPolicy(**policy))


def expected(teacher, store, split, views, view, row):
    picture = torch.from_numpy(store.pictures[split.train[row : row + 1]])
    parameters = torch.from_numpy(views.parameters[view, row : row + 1])
    with torch.inference_mode():
        return teacher.network()(plain(render_views(picture, parameters))).numpy()


def test_logits_are_of_the_very_views_that_students_see(teachers, stores, split):
    views = table(split)
    logits = open_ahead(TeacherPass(teachers[:1], stores, split, CPU).logits(views), 2)
    assert logits.shape == (2, len(split.train), 3)
    assert logits.dtype == np.float16
    for view, row in ((0, 0), (1, 5), (1, 65)):
        wanted = expected(teachers[0], stores[32], split, views, view, row)
        np.testing.assert_allclose(logits[view, row : row + 1], wanted, atol=0.02, rtol=0.01)


def test_several_teachers_are_averaged_each_at_its_own_size(teachers, stores, split):
    views = table(split)
    logits = open_ahead(TeacherPass(teachers, stores, split, CPU).logits(views), 2)
    both = zip(teachers, (stores[32], stores[16]), strict=True)
    wanted = np.mean([expected(teacher, store, split, views, 1, 5) for teacher, store in both], axis=0)
    np.testing.assert_allclose(logits[1, 5:6], wanted, atol=0.02, rtol=0.01)


def test_they_are_made_once_and_again_when_the_file_is_damaged(teachers, stores, split, caplog):
    views, told = table(split, views=1, seed=4), []

    def made():
        told.clear()
        return TeacherPass(teachers[:1], stores, split, CPU).logits(
            views, advance=lambda *now: told.append(now)
        )

    path = made()
    assert told[-1] == (len(split.train), len(split.train))
    whole = path.read_bytes()
    assert made() == path
    assert told == []
    path.write_bytes(whole[:300])
    made()
    assert told
    assert path.read_bytes() == whole
    assert "is damaged" in caplog.text


def test_logits_that_the_teacher_does_not_give_are_made_again(teachers, stores, split, caplog):
    """As after a change of the code that renders: the checksums hold and the rows are wrong."""
    views = table(split, seed=5)
    teacher_pass = TeacherPass(teachers[:1], stores, split, CPU)
    path = teacher_pass.logits(views)
    right = np.array(open_ahead(path, 2))
    layout = journal.Layout(shape=(2 * len(split.train), 3), dtype="float16", block_rows=256)
    blocks.remove_blocks(path)
    blocks.make_once(path, layout, lambda maker: maker.write(0, right.reshape(-1, 3)[::-1]))
    teacher_pass.logits(views)
    assert "doesn't hold what it should any more" in caplog.text
    np.testing.assert_array_equal(open_ahead(path, 2), right)


def test_mixed_views_get_logits_of_their_own(teachers, stores, split):
    mixed = table(split, mixup=0.8)
    assert mixed.partners is not None
    logits = open_ahead(TeacherPass(teachers[:1], stores, split, CPU).logits(mixed), 2)
    alone = np.concatenate([expected(teachers[0], stores[32], split, mixed, 0, row) for row in range(20)])
    share = mixed.parameters[0, :20, -1]
    differs = np.abs(logits[0, :20] - alone).max(axis=1) > 0.2
    assert differs[share < 0.7].any()
    assert not differs[share > 0.999].any()


def test_a_view_of_the_train_part_takes_a_time_above_zero(teachers, stores, split):
    teacher_pass = TeacherPass(teachers[:1], stores, split, CPU)
    assert teacher_pass.seconds_a_view(table(split, views=1)) > 0
    assert not teacher_pass.has(table(split, seed=99))
