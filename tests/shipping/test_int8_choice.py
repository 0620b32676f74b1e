"""Which int8 file is taken: of the fastest layout that keeps the accuracy, the one that loses least."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from small_run import LAYER, SIZE, float_model_of, trained, with_outlier, without_waiting

from hkbench.benchmark.turns import timed_in_turns
from hkbench.errors import UsageError
from hkbench.export.onnx import content_of
from hkbench.export.quantize.recipe import LAYOUTS, Layout, Recipe, recipes_of
from hkbench.export.session import open_session, session_logits
from hkbench.shipping import int8
from hkbench.shipping.gate import accuracy_lost, passes, said
from hkbench.shipping.int8 import blamed, by_speed, choose_int8
from hkbench.shipping.parts import Parts
from hkbench.store.records import AccuracyLoss

U8, U8_STEM, S8, S8_STEM = LAYOUTS


@pytest.fixture(scope="module")
def contents(parts) -> dict[str, bytes]:
    network = trained(parts)
    return {
        "plain": content_of(float_model_of(network)),
        "outlier": content_of(float_model_of(with_outlier(network))),
    }


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch):
    """Say how fast the layouts are: what is measured here would be chance."""
    latencies = {None: 2.0, U8: 1.0, U8_STEM: 1.02, S8: 1.5, S8_STEM: 1.4}
    monkeypatch.setattr(int8, "time_layouts", lambda *_: latencies)


def choose(contents, name, parts, advance=lambda *_: None):
    model = onnx.ModelProto.FromString(contents[name])
    logits = session_logits(open_session(contents[name], threads=1), parts.pictures("validation"))
    return choose_int8(model, logits, parts, advance)


def by_tensor(layout: Layout) -> list[Recipe]:
    """Return the recipes with one scale for a whole layer."""
    return [recipe for recipe in recipes_of(layout) if not recipe.per_channel]


def test_the_fastest_layout_comes_first():
    assert by_speed({U8: 4.0, U8_STEM: 3.0, S8: 2.0, S8_STEM: 1.0}) == [S8_STEM, S8, U8_STEM, U8]


def test_of_layouts_that_are_as_fast_the_plain_ones_come_first():
    assert by_speed({U8: 1.02, U8_STEM: 1.0, S8: 1.5, S8_STEM: 1.04}) == [U8, U8_STEM, S8_STEM, S8]
    assert by_speed({U8: 1.04, U8_STEM: 1.0, S8: 1.5, S8_STEM: 1.6})[0] == U8_STEM


def test_the_fastest_layout_is_taken_where_it_keeps_the_accuracy(contents, parts):
    told = []
    choice = choose(contents, "plain", parts, lambda *done: told.append(done))
    assert choice.passed
    assert choice.best.recipe.layout == U8
    assert [each.recipe for each in choice.tried] == [recipe.label for recipe in recipes_of(U8)]
    assert choice.best.lost.estimate == min(each.lost.estimate for each in choice.tried)
    assert told == [(number, 12) for number in range(1, 13)]
    assert choice.float_latency_ms == 2.0
    assert {each.latency_ms for each in choice.tried} == {1.0}


def test_an_attempt_s_figures_are_its_file_s(contents, parts):
    choice = choose(contents, "plain", parts)
    content = content_of(choice.best.model)
    found = session_logits(open_session(content, threads=1), parts.pictures("validation"), batch=32)
    np.testing.assert_allclose(choice.best.logits, found, atol=1e-5)
    record, right = choice.best.record, found.argmax(axis=1) == parts.labels("validation")
    assert record.accuracy == pytest.approx(right.mean())
    assert record.size_bytes == len(content)
    assert record.recipe == choice.best.recipe.label


def test_the_recipe_that_loses_least_is_taken(contents, parts):
    """One scale for weights of very different size loses nearly all; one for each channel nothing."""
    choice = choose(contents, "outlier", parts)
    assert choice.passed
    assert choice.best.recipe.per_channel
    lost = {each.recipe: each.lost.estimate for each in choice.tried}
    assert all((loss > 0.3) == ("per tensor" in recipe) for recipe, loss in lost.items())


def test_a_slower_layout_is_tried_where_the_fastest_loses_too_much(contents, parts, monkeypatch):
    monkeypatch.setattr(
        int8, "recipes_of", lambda layout: by_tensor(layout) if layout == U8 else recipes_of(layout)
    )
    choice = choose(contents, "outlier", parts)
    assert choice.passed
    assert choice.best.recipe.layout == U8_STEM
    tried = [recipe.label for recipe in (*by_tensor(U8), *recipes_of(U8_STEM))]
    assert [each.recipe for each in choice.tried] == tried


def test_where_none_passes_the_one_that_loses_least_is_given(contents, parts, monkeypatch):
    monkeypatch.setattr(int8, "recipes_of", by_tensor)
    choice = choose(contents, "outlier", parts)
    assert not choice.passed
    assert len(choice.tried) == sum(len(by_tensor(layout)) for layout in LAYOUTS)
    assert choice.best.lost.estimate == min(each.lost.estimate for each in choice.tried)


def test_the_layer_to_blame_is_named_first(contents, parts, monkeypatch):
    monkeypatch.setattr(int8, "recipes_of", lambda layout: by_tensor(layout)[:1])
    monkeypatch.setattr(int8, "LAYOUTS", (U8,))
    (worst, share), *others = blamed(choose(contents, "outlier", parts), parts.calibration())
    assert worst == LAYER
    assert share > 0.3
    assert len(others) == 2
    assert all(other < 0.1 for _, other in others)


def test_too_few_training_pictures_are_refused(contents, parts):
    split = parts.split
    few = replace(split, train=split.train[:63])
    with pytest.raises(UsageError, match=r"at least 64 training pictures.*found 63"):
        choose(contents, "plain", Parts(store=parts.store, split=few))


def test_pictures_to_calibrate_with_are_of_the_train_part_and_always_the_same(parts):
    found = parts.calibration()
    np.testing.assert_array_equal(found, parts.calibration())
    assert found.dtype == np.uint8
    train = {picture.tobytes() for picture in parts.pictures("train")}
    assert {picture.tobytes() for picture in found} == train  # fewer than are drawn: all of them


def test_files_are_timed_in_turns(contents):
    found = timed_in_turns(contents, SIZE, seconds=0.0)
    assert set(found) == {"plain", "outlier"}
    assert min(found.values()) > 0


def test_layouts_are_timed_beside_the_float_file(contents, parts, monkeypatch):
    monkeypatch.undo()
    without_waiting(monkeypatch)
    monkeypatch.setattr(int8, "recipes_of", lambda layout: [Recipe(layout=layout)])
    choice = choose(contents, "plain", parts)
    assert choice.float_latency_ms > 0
    assert {each.latency_ms for each in choice.tried} != {choice.float_latency_ms}


def answers(right: int, count: int = 1000):
    """Return logits that are right on the first `right` of `count` pictures of class 0."""
    logits = np.zeros((count, 3), np.float32)
    logits[:right, 0] = logits[right:, 1] = 1.0
    return logits


@pytest.mark.parametrize(
    ("after", "held"), [(900, True), (896, True), (895, True), (894, False), (800, False), (950, True)]
)
def test_half_a_point_may_be_lost(after: int, held: bool):
    lost = accuracy_lost(answers(900), answers(after), np.zeros(1000, np.int64))
    assert lost.estimate == pytest.approx((900 - after) / 1000)
    assert lost.low <= lost.estimate <= lost.high
    assert passes(lost) == held


def test_a_loss_that_may_be_chance_is_refused_all_the_same():
    assert not passes(AccuracyLoss(estimate=0.0, low=-0.02, high=0.02))
    assert passes(AccuracyLoss(estimate=-0.01, low=-0.02, high=0.0))


def test_a_loss_in_words():
    assert said(AccuracyLoss(estimate=0.0032, low=-0.001, high=0.0074)) == "0.32 points (-0.10 to 0.74)"
