"""A network trained on with int8's rounding simulated, taught by itself as it is in float32."""

from collections.abc import Callable

import torch

from hkbench.config import usable_cores
from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.errors import UsageError
from hkbench.models.classifier import Classifier
from hkbench.shipping.float32 import kept_network
from hkbench.shipping.parts import Parts
from hkbench.store.records import ModelRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.ahead import open_ahead, torch_threads
from hkbench.training.feed import TrainingData
from hkbench.training.given_teacher import open_teacher
from hkbench.training.logits import TeacherPass
from hkbench.training.loop import EpochResult, Training, TrainingConfig
from hkbench.training.losses import loss_config
from hkbench.training.optimizers import OptimizerConfig
from hkbench.training.quantization_aware import RoundedTraining

EPOCHS = 4
VIEWS = 3
LEARNING_RATE = 5e-4
TEMPERATURE = 2.0
ALPHA = 0.1
"""A tenth for the labels: the float32 network knows more than they say."""
CPU = torch.device("cpu")


def tune(
    run: RunDirectory,
    record: ModelRecord,
    parts: Parts,
    *,
    epochs: int = EPOCHS,
    policy: ViewPolicy | None = None,
    device: torch.device = CPU,
    on_epoch: Callable[[EpochResult, int], None] = lambda *_: None,
) -> tuple[Classifier, int]:
    """Return the network of a float32 model of a run after some epochs of rounded training, and their number.

    Args:
        run: where the model lies, with its weights.
        record: the float32 model's.
        parts: the pictures of its size; the train part is trained on.
        epochs: how many.
        policy: how views are made, the default policy without it.
        device: where to train.
        on_epoch: called after each epoch with its result and the number of epochs in all.

    Raises:
        UsageError: the run doesn't hold the model's weights.
    """
    network = kept_network(run, record)
    if network is None:
        raise UsageError(f"{run.models / record.id} has no model.safetensors to train on.")
    rounded = RoundedTraining(network)
    config = TrainingConfig(
        epochs=epochs,
        optimizer=OptimizerConfig(name="adamw", learning_rate=LEARNING_RATE),
        loss=loss_config("kd", alpha=ALPHA, temperature=TEMPERATURE),
        mixed_precision=False,  # bfloat16 would round more coarsely than what is simulated
    )
    data = _data(run, record, parts, policy or ViewPolicy(), device)
    with torch_threads(usable_cores()):
        for result in Training(rounded.network, data, config, device).epochs():
            on_epoch(result, epochs)
    return rounded.plain(), epochs


def _data(
    run: RunDirectory, record: ModelRecord, parts: Parts, policy: ViewPolicy, device: torch.device
) -> TrainingData:
    """Return the train part with what the float32 network says of its views."""
    store, split = parts.store, parts.split
    teacher = open_teacher(run.models / record.id, classes=store.classes, split_hashes=[split.hash])
    views = sample_views(VIEWS, len(split.train), 0, policy)
    logits = TeacherPass([teacher], {store.size: store}, split, device).logits(views)
    return TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=split.train,
        validation=split.validation,
        views=views.parameters,
        partners=views.partners,
        teacher_logits=open_ahead(logits, VIEWS),
    )
