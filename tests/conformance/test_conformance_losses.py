"""Every loss of the registry: a finite scalar with finite gradients in every precision, its weights told."""

import dataclasses
import pickle

import pytest
import torch
from torch.nn import functional

from hkbench.cli.live import point_text
from hkbench.errors import UsageError
from hkbench.spaces.settings import settings_of
from hkbench.training.losses import LOSSES, compute_loss, loss_config

BATCH, CLASSES = 6, 5
ARGUMENTS = {"alpha": 0.4, "beta": 2.5, "gamma": 1.5, "temperature": 3.0, "label_smoothing": 0.1}


def configured(name, **arguments):
    return loss_config(name, **(ARGUMENTS | arguments))


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, BATCH, CLASSES, generator=generator)
    return student.to(dtype).requires_grad_(), teacher.half(), torch.arange(BATCH) % CLASSES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_finite_scalar_with_finite_gradients(name, dtype):
    student, teacher, labels = batch(dtype)
    loss = compute_loss(student, labels, teacher, configured(name))
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert student.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_tells_its_name_and_effective_weights(name):
    config = configured(name)
    weights = dict(config.weights)
    assert config.name == name
    assert config.label_smoothing == ARGUMENTS["label_smoothing"]
    assert all(weight >= 0 for weight in weights.values())
    assert config.weight_hard == weights.pop("hard")
    assert config.weight_soft == pytest.approx(sum(weights.values()))
    assert config.weight_hard + config.weight_soft > 0
    assert config.needs_teacher == (config.weight_soft > 0) == (config.temperature is not None)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_sum_of_its_terms_by_their_weights(name):
    student, teacher, labels = batch()
    config = configured(name)

    def of(terms):
        weights = tuple((term, weight) for term, weight in config.weights if term in terms)
        return float(
            compute_loss(student.detach(), labels, teacher, dataclasses.replace(config, weights=weights))
        )

    terms = [term for term, _ in config.weights]
    assert of(terms) == pytest.approx(sum(of([term]) for term in terms), rel=1e-5)
    smoothed = functional.cross_entropy(student, labels, label_smoothing=config.label_smoothing)
    assert of(["hard"]) == pytest.approx(config.weight_hard * float(smoothed.detach()), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_needs_a_teacher_says_so_and_others_read_none(name):
    student, teacher, labels = batch()
    config = configured(name)
    if config.needs_teacher:
        with pytest.raises(ValueError, match=f"'{name}' needs teacher logits"):
            compute_loss(student, labels, None, config)
    else:
        assert compute_loss(student, labels, None, config) == compute_loss(student, labels, teacher, config)


@pytest.mark.parametrize("name", LOSSES)
def test_the_teacher_gets_no_gradient_and_nothing_is_changed_in_place(name):
    student, teacher, labels = batch()
    before = [each.detach().clone() for each in (student, teacher, labels)]
    compute_loss(student, labels, teacher, configured(name)).backward()
    assert teacher.grad is None
    assert all(torch.equal(each, old) for each, old in zip((student, teacher, labels), before, strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_labels_may_be_probabilities(name):
    student, teacher, labels = batch()
    one_hot = functional.one_hot(labels, CLASSES).float()
    config = configured(name)
    plain = compute_loss(student, labels, teacher, config)
    torch.testing.assert_close(compute_loss(student, one_hot, teacher, config), plain)
    for share in (0.7, 0.5):  # the second is a tie between two classes
        mixed = share * one_hot + (1 - share) * one_hot.roll(1, dims=0)
        loss = compute_loss(student, mixed, teacher, config)
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        assert not torch.isclose(loss, plain)


@pytest.mark.parametrize("name", LOSSES)
def test_logits_that_tie_give_finite_gradients(name):
    _, teacher, labels = batch()
    for student in (torch.zeros(BATCH, CLASSES), torch.full((BATCH, CLASSES), 100.0)):
        for taught in (teacher, torch.zeros_like(teacher)):
            student = student.detach().requires_grad_()
            loss = compute_loss(student, labels, taught, configured(name))
            loss.backward()
            assert torch.isfinite(loss)
            assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_small_batches_and_two_classes_are_fine(name, size):
    student = torch.tensor([[1.0, -2.0], [0.5, 0.25]])[:size].requires_grad_()
    teacher = torch.tensor([[2.0, 0.0], [-1.0, 1.0]])[:size]
    loss = compute_loss(student, torch.tensor([0, 1])[:size], teacher, configured(name))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_right_answer_costs_less_than_a_wrong_one(name):
    labels = torch.arange(CLASSES)
    right = 8 * torch.eye(CLASSES)
    wrong = right.roll(1, dims=1)
    losses = [float(compute_loss(logits, labels, right, configured(name))) for logits in (right, wrong)]
    assert losses[0] < losses[1]


def test_a_search_can_use_every_loss_and_shows_which_it_was():
    chosen = {name: value for name, value in ARGUMENTS.items() if name != "label_smoothing"}
    shown = {
        name: point_text(settings_of({"model": "household_s", "loss": name, **chosen})) for name in LOSSES
    }
    assert len(set(shown.values())) == len(LOSSES)
    assert {name for name, text in shown.items() if "no teacher" in text} == {
        name for name in LOSSES if not configured(name).needs_teacher
    }


@pytest.mark.parametrize("name", LOSSES)
def test_a_config_can_be_compared_hashed_and_sent_to_a_worker(name):
    config = configured(name)
    assert pickle.loads(pickle.dumps(config)) == config
    assert len({config, configured(name)}) == 1


def read_by(name, argument):
    return configured(name, **{argument: ARGUMENTS[argument] / 2}) != configured(name)


@pytest.mark.parametrize("argument", ["alpha", "beta", "gamma", "temperature", "label_smoothing"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", LOSSES)
def test_an_argument_out_of_range_is_refused_by_name_or_left_alone(name, value, argument):
    if read_by(name, argument):
        with pytest.raises(UsageError, match=rf"{argument} must .*, found {value}\."):
            configured(name, **{argument: value})
    else:
        assert configured(name, **{argument: value}) == configured(name)
