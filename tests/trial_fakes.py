"""A search's job without a search: trials on it run in the test's own process."""

from training_fakes import bright_pictures, three_parts

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.training.rendered import rendered_views
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.shared import SharedData, keep_split, keep_views
from hkbench.trials.trial import Job


def job_of(folder, *, epochs=2, views=2):
    """A search's job on bright pictures, without teacher; its cache and checkpoints are in a folder."""
    store, split = bright_pictures(folder / "cache"), three_parts()
    table = sample_views(views, len(split.train), 0, ViewPolicy(mixup=0.3))
    shared = SharedData(
        stores={32: store.path},
        split=keep_split(split),
        views=keep_views(table),
        rendered=rendered_views([store], split, table),
        teachers=[],
        teacher_logits=None,
        classes=store.classes,
    )
    checkpoints = CheckpointStore.at(folder / "checkpoints")
    return Job(shared=shared, checkpoints=checkpoints, max_epochs=epochs, seed=0, threads=1, device="cpu")
