"""The engine as its users see it: it learns, resumes bit for bit, and refuses a loss that is no number."""

import numpy as np
import pytest
import torch

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.errors import HkbenchError, UsageError
from hkbench.models.build import build
from hkbench.training import loop
from hkbench.training.checkpoint import load_checkpoint, save_checkpoint
from hkbench.training.feed import TrainingData
from hkbench.training.loop import DivergedError, Training, TrainingConfig
from hkbench.training.losses import compute_loss, loss_config
from hkbench.training.optimizers import LARGEST_RATE, OPTIMIZERS, OptimizerConfig

CLASSES = 3
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data():
    """Pictures whose class is their brightest channel, easy enough for a few steps."""
    rng = np.random.default_rng(0)
    labels = np.arange(96) % CLASSES
    pictures = rng.integers(0, 90, (96, 3, 32, 32), dtype=np.uint8)
    pictures[np.arange(96), labels] += 150
    train, validation = np.arange(72), np.arange(72, 96)
    views = sample_views(2, len(train), 0, ViewPolicy())
    teacher = np.eye(CLASSES, dtype=np.float16)[labels[train]] * 6
    return TrainingData(
        pictures=pictures,
        labels=labels,
        train=train,
        validation=validation,
        views=views.parameters,
        teacher_logits=np.stack([teacher, teacher]),
    )


def config(**changes):
    return TrainingConfig(
        **{
            "epochs": 3,
            "batch_size": 8,
            "optimizer": OptimizerConfig(name="sgd", learning_rate=0.05),
            "loss": loss_config("kd", alpha=0.3, temperature=2),
            "seed": 1,
            **changes,
        }
    )


def training(data, **changes):
    return Training(build("household_s", classes=CLASSES, seed=1), data, config(**changes), CPU)


def losses_of(run):
    return [epoch.train_loss for epoch in run.epochs()]


def test_a_student_learns_from_labels_and_teacher(data):
    epochs = list(training(data, epochs=5).epochs())
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4, 5]
    assert epochs[-1].train_loss < epochs[0].train_loss / 2
    assert epochs[-1].metrics["accuracy"] > 0.9
    assert epochs[-1].learning_rate == pytest.approx(0, abs=1e-6)


def test_the_same_seed_gives_the_same_losses(data):
    assert losses_of(training(data)) == losses_of(training(data))
    assert losses_of(training(data)) != losses_of(training(data, seed=2))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(data, tmp_path, ema_decay, optimizer):
    changes = {"ema_decay": ema_decay, "optimizer": OptimizerConfig(name=optimizer, learning_rate=0.01)}
    whole = list(training(data, **changes).epochs())
    first = training(data, **changes)
    next(first.epochs())
    save_checkpoint(tmp_path / "c.pt", first.state_dict())
    second = Training(build("household_s", classes=CLASSES, seed=99), data, config(**changes), CPU)
    second.load_state_dict(load_checkpoint(tmp_path / "c.pt"))
    rest = list(second.epochs())
    assert [(e.epoch, e.train_loss, e.metrics) for e in rest] == [
        (e.epoch, e.train_loss, e.metrics) for e in whole[1:]
    ]


@pytest.mark.parametrize("bad_step", [0, 5, 8])
def test_a_loss_that_is_no_number_names_its_step_and_learning_rate(data, monkeypatch, bad_step):
    run = training(data, warmup_epochs=1)
    steps = iter(range(100))

    def loss_of(*given):
        return compute_loss(*given) * (float("nan") if next(steps) == bad_step else 1)

    monkeypatch.setattr(loop, "compute_loss", loss_of)
    rate = 0.05 * (bad_step + 1) / 9  # the warm-up of nine steps
    message = rf"became nan at step {bad_step + 1} of epoch 1, at learning rate {rate:.3g}\."
    with pytest.raises(DivergedError, match=message):
        list(run.epochs())


def test_a_network_that_diverges_is_refused(data):
    run = training(data, optimizer=OptimizerConfig(name="sgd", learning_rate=LARGEST_RATE))
    with pytest.raises(DivergedError):
        list(run.epochs())


def test_distillation_without_a_teacher_is_refused(data):
    alone = TrainingData(**{**data.__dict__, "teacher_logits": None})
    with pytest.raises(HkbenchError, match="needs a teacher"):
        training(alone)


def test_the_moving_average_is_what_is_evaluated_and_shipped(data):
    run = training(data, ema_decay=0.99)
    list(run.epochs())
    moving = next(run.trained.parameters())
    assert not torch.equal(moving, next(run.network.parameters()))


def test_a_frozen_body_stays_as_it_was(data):
    network = build("household_s", classes=CLASSES, seed=1, unfreeze="none")
    before = {
        name: tensor.clone() for name, tensor in network.state_dict().items() if name.startswith("body")
    }
    assert before
    list(Training(network, data, config(), CPU).epochs())
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "c.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(HkbenchError, match=r"c\.pt can't be read"):
        load_checkpoint(path)


def averages(run):
    """Return what the optimiser remembers of the gradients, tensor by tensor."""
    states = run.state_dict()["optimizer"]["state"].values()
    return [value for state in states for value in state.values() if torch.is_tensor(value) and value.ndim]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [1e-3, 1e6])
def test_gradients_are_clipped_as_torch_clips_them(data, optimizer, clip_norm):
    """The fused optimisers divide by a scale as they step: the weights must be those of a plain clipping."""
    changes = {
        "optimizer": OptimizerConfig(name=optimizer, learning_rate=0.01),
        "clip_norm": clip_norm,
        "batch_size": 72,  # one step, for AdamW makes much of how the smallest gradients are rounded
        "mixed_precision": False,
    }
    fused, plain = training(data, **changes), training(data, **changes)

    def clip():
        torch.nn.utils.clip_grad_norm_(plain.network.parameters(), clip_norm)

    plain._clip_gradients = clip
    for run in (fused, plain):
        run.train_epoch()
    weights = dict(plain.network.named_parameters())
    for name, parameter in fused.network.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=1e-3, atol=1e-4)
    for one, other in zip(
        averages(fused), averages(plain), strict=True
    ):  # some steps hide the gradients' size
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * float(other.abs().max()))


def test_an_unknown_schedule_is_refused_before_anything_is_trained(data):
    with pytest.raises(UsageError, match="Did you mean 'one_cycle'"):
        training(data, schedule="onecycle")


@pytest.mark.parametrize(("schedule", "left"), [("step", 0.01), ("constant", 1), ("one_cycle", 0)])
def test_the_schedule_decides_the_rate_of_the_last_epoch(data, schedule, left):
    epochs = list(training(data, schedule=schedule, epochs=4).epochs())
    assert epochs[-1].learning_rate == pytest.approx(0.05 * left, abs=1e-6)
