"""A space of one point: what `hkbench train` trains is a search with nothing to choose."""

from pathlib import Path
from typing import Any

from hkbench.driver.plan import folder_of
from hkbench.errors import UsageError
from hkbench.models.registry import entry_of
from hkbench.spaces.parameters import CategoricalParameter
from hkbench.spaces.settings import TrialSettings, settings_of
from hkbench.spaces.space import Schedule, Space
from hkbench.training.teacher import TeacherRecipe

EPOCHS = 20
LOSSES_BY_DEFAULT: dict[str, dict[str, float]] = {
    "kd": {"temperature": 2.0, "alpha": 0.3},
    "lskd": {"temperature": 2.0, "hard_weight": 0.1, "soft_weight": 9.0},
}
"""Arguments of the losses that have no default of their own: the study's (S12) and arXiv 2403.01427's."""


def one_network(
    model: str, settings: dict[str, Any], *, teacher: str | None, epochs: int | None
) -> tuple[Space, Path | None]:
    """Return the space of one training, and the folder of its teacher where `teacher` names one.

    Args:
        model: the network.
        settings: settings of the trial that aren't left to their defaults.
        teacher: a network's name, or a folder; a loss that reads a teacher takes the space's own without it.
        epochs: how many epochs to train.

    Raises:
        UsageError: a setting, a name or a combination that can't be.
    """
    if "model" in settings:
        raise UsageError("The network is named by --model, not by --set model.")
    loss = settings.get("loss") or ("kd" if teacher is not None else "hard")
    if loss == "hard" and teacher is not None:
        raise UsageError(
            "The loss 'hard' reads no teacher: leave --teacher out, or take kd, dkd, dist or lskd."
        )
    size = max(TrialSettings.model_fields["image_size"].default, entry_of(model).smallest_image_size)
    defaults = {"image_size": size, **settings, "loss": loss}
    for name, value in LOSSES_BY_DEFAULT.get(str(loss), {}).items():
        defaults.setdefault(name, value)
    settings_of({"model": model, **defaults})
    folder = folder_of(teacher)
    recipe = TeacherRecipe() if teacher is None or folder is not None else TeacherRecipe(model=teacher)
    count = epochs or EPOCHS
    space = Space(
        name=model,
        about=f"One training of {model}.",
        parameters={"model": CategoricalParameter(type="categorical", choices=[model])},
        objectives={"accuracy": "maximize", "artifact_bytes": "minimize", "latency_ms": "minimize"},
        schedule=Schedule(trials=1, max_epochs=count, grace=count),
        teacher=recipe,
        defaults=defaults,
    )
    return space, folder
