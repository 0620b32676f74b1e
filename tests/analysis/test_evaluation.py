from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import classification_report

from hkbench.analysis.evaluation import class_scores, evaluate, part_metrics
from hkbench.analysis.metrics import METRICS, metrics_of
from hkbench.analysis.misclassification import costs_between
from hkbench.analysis.predictions import PredictionBlock
from hkbench.store.records import PartMetrics

CLASSES = 9


def answers(n: int, seed: int = 0, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, n)
    logits = sharpness * (np.eye(CLASSES)[labels] + generator.normal(scale=0.7, size=(n, CLASSES)))
    return logits.astype(np.float16), labels


def block(part: str, seed: int, model_id: str = "a") -> PredictionBlock:
    logits, labels = answers(300, seed)
    ids = [f"{part}-{place}" for place in range(300)]
    return PredictionBlock(
        model_id=model_id, part=part, picture_ids=ids, groups=None, labels=labels, logits=logits
    )


def test_every_metric_has_an_interval_around_it() -> None:
    logits, labels = answers(400)
    costs = costs_between([str(place) for place in range(CLASSES)])
    found = evaluate(logits, labels, costs=costs)
    assert found.metrics == metrics_of(logits, labels)
    assert tuple(found.intervals) == (*METRICS, "cost_weighted_error")
    for name in METRICS[:-1]:  # resampling adds to a calibration error, which is a mean of absolute values
        assert found.intervals[name].low < found.metrics[name] < found.intervals[name].high


def test_an_accuracy_interval_holds_the_truth_nearly_always() -> None:
    held = 0
    for seed in range(60):
        right = np.random.default_rng(seed).uniform(size=200) < 0.8
        interval = evaluate(np.eye(6)[np.where(right, 2, 3)], np.full(200, 2), seed=seed).intervals[
            "accuracy"
        ]
        held += interval.low <= 0.8 <= interval.high
    assert 51 <= held <= 60


def right_by_product(seed: int, products: int = 80, pictures: int = 5) -> tuple[np.ndarray, list[str]]:
    """Logits of a network that has all pictures of a product right, or none; the label is 2 throughout."""
    right = np.repeat(np.random.default_rng(seed).uniform(size=products) < 0.8, pictures)
    groups = [f"product-{place:02}" for place in np.repeat(np.arange(products), pictures)]
    return np.eye(6)[np.where(right, 2, 3)], groups


def test_groups_are_drawn_whole_so_that_the_interval_holds_the_truth() -> None:
    held = {True: 0, False: 0}
    for seed in range(60):
        logits, groups = right_by_product(seed)
        for whole in held:
            found = evaluate(logits, np.full(400, 2), groups=groups if whole else None, seed=seed)
            held[whole] += found.intervals["accuracy"].low <= 0.8 <= found.intervals["accuracy"].high
    assert held[True] >= 52
    assert held[False] <= 45, "five pictures that are always right together are not five witnesses"


def test_pictures_that_are_each_a_group_are_drawn_singly() -> None:
    logits, labels = answers(60)
    alone = [f"{place:03}" for place in range(60)]
    assert evaluate(logits, labels, groups=alone).intervals == evaluate(logits, labels).intervals


def test_one_group_alone_has_no_intervals() -> None:
    assert evaluate(*answers(9), groups=["same"] * 9).intervals == {}


def test_a_group_is_needed_for_every_picture() -> None:
    with pytest.raises(ValueError, match="a group for each of 5 pictures, not 2"):
        evaluate(*answers(5), groups=["a", "b"])


def test_the_same_seed_draws_the_same_pictures() -> None:
    logits, labels = answers(60)
    assert evaluate(logits, labels, seed=1).intervals == evaluate(logits, labels, seed=1).intervals
    assert evaluate(logits, labels, seed=1).intervals != evaluate(logits, labels, seed=2).intervals


def test_class_scores_are_those_of_scikit_learns_report() -> None:
    logits, labels = answers(90)
    found = class_scores(logits.argmax(axis=1), labels, CLASSES)
    said = classification_report(labels, logits.argmax(axis=1), output_dict=True, zero_division=np.nan)
    for name in range(CLASSES):
        assert found.precision[name] == said[str(name)]["precision"]
        assert found.recall[name] == said[str(name)]["recall"]
        assert found.f1[name] == said[str(name)]["f1-score"]
        assert found.support[name] == said[str(name)]["support"]


def test_a_class_without_pictures_or_answers_has_no_scores() -> None:
    by_class = class_scores(np.array([0, 2]), np.array([0, 0]), 3)
    np.testing.assert_array_equal(by_class.precision, [1, np.nan, 0])
    np.testing.assert_array_equal(by_class.recall, [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(by_class.f1, [2 / 3, np.nan, 0])


def test_a_temperature_of_another_part_mends_too_much_confidence() -> None:
    logits, labels = answers(2000, seed=1, sharpness=12.0)
    found = evaluate(logits, labels, calibration=answers(2000, seed=2, sharpness=12.0))
    assert found.temperature is not None
    assert found.temperature > 1.5
    assert found.calibrated_error is not None
    assert found.calibrated_error < found.metrics["calibration_error"] / 2


def test_without_another_part_there_is_no_temperature() -> None:
    found = evaluate(*answers(50))
    assert (found.temperature, found.calibrated_error, found.cost_weighted_error) == (None, None, None)
    perfect = (9 * np.eye(CLASSES), np.arange(CLASSES))
    found = evaluate(*answers(50), calibration=perfect)
    assert (found.temperature, found.calibrated_error) == (None, None)


def test_costs_weigh_wrong_answers() -> None:
    costs = costs_between(["a", "b", "c"], {"a": {"b": 4.0}}, default=1.0)
    found = evaluate(np.eye(3)[[1, 0, 1, 1]], np.array([0, 0, 1, 2]), costs=costs)
    assert found.cost_weighted_error == (4 + 0 + 0 + 1) / 4
    with pytest.raises(ValueError, match="costs of 9 classes, not 3"):
        evaluate(*answers(5), costs=costs)


def test_one_picture_has_metrics_and_no_intervals() -> None:
    found = evaluate(*answers(1))
    assert found.intervals == {}
    assert tuple(found.metrics) == METRICS


def test_a_record_holds_what_was_evaluated_and_survives_json() -> None:
    costs = costs_between([str(place) for place in range(CLASSES)], default=2.0)
    found = part_metrics(block("test", 1), calibration=block("validation", 2), costs=costs)
    assert (found.part, found.pictures) == ("test", 300)
    assert found.temperature is not None
    assert found.calibrated_error is not None
    assert found.cost_weighted_error == pytest.approx(2 * (1 - found.metrics["accuracy"]))
    low, high = found.intervals["log_loss"]
    assert low < found.metrics["log_loss"] < high
    assert PartMetrics.model_validate_json(found.model_dump_json()) == found


def test_a_record_has_the_intervals_of_its_groups() -> None:
    logits, groups = right_by_product(0)
    one = replace(block("test", 1), groups=groups, logits=logits.astype(np.float16), labels=np.full(400, 2))
    low, high = part_metrics(one).intervals["accuracy"]
    alone_low, alone_high = part_metrics(replace(one, groups=None)).intervals["accuracy"]
    assert high - low > 1.7 * (alone_high - alone_low)


def test_a_record_of_an_earlier_version_is_read() -> None:
    old = '{"schema_version": 1, "part": "test", "pictures": 3, "metrics": {"accuracy": 0.5}}'
    found = PartMetrics.model_validate_json(old)
    assert found.intervals == {}
    assert found.temperature is None


@pytest.mark.parametrize("other", [block("test", 1), replace(block("validation", 2), model_id="b")])
def test_a_temperature_of_the_same_part_or_another_model_is_refused(other: PredictionBlock) -> None:
    with pytest.raises(ValueError, match="must come from its own answers on another part, not"):
        part_metrics(block("test", 1), calibration=other)
