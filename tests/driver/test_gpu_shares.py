"""Who holds which share of a GPU, and whether there is room for one trial more; nothing of it needs Ray."""

import pytest

from hkbench.driver.cluster import LOOK_EVERY_S, Node, TrialResources
from hkbench.driver.gpu_packing import Decision, GpuPacking
from hkbench.driver.shares import STARTING_S, GpuShares
from hkbench.driver.trial_records import LiveTrial
from hkbench.spaces.settings import TrialSettings
from hkbench.store.records import Usage
from hkbench.study.points import Asked
from hkbench.training.gpu_memory import TORCHS_OWN
from hkbench.trials.failures import Cause, Failure

MIB, GIB = 1024**2, 1024**3
SMALL, LARGE, NEW = "household_s", "mobilenet_v2", "mobilenet_v3_small"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Made:
    """Shares of GPUs of 16 GiB, four cores each. What is `SMALL` takes a quarter of one, `LARGE` a whole."""

    def __init__(self, *nodes, **changes):
        self.nodes = list(nodes or [Node(name="here", cpus=4, gpus=1)])
        self.clock = Clock()
        packing = GpuPacking(device_bytes=16 * GIB, cores_per_gpu=4, data_bytes={})
        packing.note_peak(live(SMALL).settings, 300 * MIB)
        packing.note_peak(live(LARGE).settings, 14 * GIB)
        self.shares = GpuShares(packing, lambda: list(self.nodes), clock=self.clock, **changes)
        self.numbers = iter(range(100))

    def give(self, model, *, starts=True):
        trial = live(model, next(self.numbers))
        held = self.shares.give(trial)
        if starts:
            self.shares.began(trial.asked.number)
        return held

    def given_until_full(self, model):
        count = 0
        while self.shares.has_room:
            self.give(model)
            count += 1
        return count


def live(model, number=0, **changes):
    settings = TrialSettings.model_validate({"model": model, "image_size": 64} | changes)
    asked = Asked(number=number, params={}, seed_point=None)
    return LiveTrial(asked=asked, settings=settings, started="now")


def measured(peak_bytes):
    return Usage(seconds=1.0, peak_gpu_bytes=peak_bytes, gpu_reason=TORCHS_OWN)


def test_a_trial_holds_a_share_with_its_cores_and_its_part_of_the_memory():
    made = Made()
    held = made.give(SMALL)
    assert (held.cpus, held.gpus, held.threads) == (1, 0.25, 1)
    assert 0.19 < held.memory_fraction < 0.25
    assert made.give(LARGE) == TrialResources(cpus=4, gpus=1.0, threads=4, memory_fraction=1.0)
    assert made.give(NEW).gpus == 1.0


def test_the_share_is_kept_with_the_trial():
    made, trial = Made(), live(SMALL)
    made.shares.give(trial)
    assert trial.gpu_share == 0.25


@pytest.mark.parametrize(
    ("nodes", "small", "large"),
    [
        ([Node(name="here", cpus=4, gpus=1)], 4, 1),
        ([Node(name="here", cpus=8, gpus=2)], 8, 2),
        ([Node(name="a", cpus=8, gpus=2), Node(name="b", cpus=4, gpus=1), Node(name="c", cpus=9)], 12, 3),
    ],
)
def test_gpus_are_filled_and_no_trial_is_asked_for_beyond(nodes, small, large):
    assert Made(*nodes).given_until_full(SMALL) == small
    assert Made(*nodes).given_until_full(LARGE) == large


def test_at_most_one_trial_waits_where_shares_differ():
    made = Made()
    made.give(SMALL)
    made.give(LARGE, starts=False)
    assert not made.shares.has_room
    made.shares.ended(0)
    assert not made.shares.has_room
    made.shares.ended(1)
    assert made.shares.has_room


def test_a_trial_that_waits_for_a_whole_gpu_is_not_kept_out_by_small_ones():
    made = Made(Node(name="here", cpus=12, gpus=3))
    for _ in range(3):
        made.give(SMALL)  # one on each
    made.give(LARGE, starts=False)
    assert made.shares.has_room  # it may just be starting
    made.clock.now += STARTING_S
    assert not made.shares.has_room
    made.shares.began(3)
    assert made.shares.has_room


def test_the_users_limit_holds():
    assert Made(most=3).given_until_full(SMALL) == 3


def test_room_follows_the_nodes_and_one_trial_may_always_be_asked_for():
    made = Made()
    assert made.given_until_full(SMALL) == 4
    made.nodes.append(Node(name="new", cpus=4, gpus=1))
    assert not made.shares.has_room
    made.clock.now += LOOK_EVERY_S
    assert made.given_until_full(SMALL) == 4
    made.nodes.clear()
    made.clock.now += LOOK_EVERY_S
    for number in range(8):
        made.shares.ended(number)
    assert made.shares.has_room  # a node may come back


def test_what_an_epoch_took_decides_on_the_trials_after_it():
    made = Made()
    made.shares.note(live(NEW), measured(300 * MIB))
    assert made.give(NEW).gpus == 0.25
    made.shares.note(live(NEW), measured(5 * GIB))
    assert made.give(NEW).gpus == 0.5


def test_a_trial_that_is_taken_up_brings_what_is_on_record_of_it():
    made, trial = Made(), live(NEW)
    trial.usage = [measured(300 * MIB)]
    assert made.shares.give(trial).gpus == 0.25
    trial.failures = [Failure(cause=Cause.GPU_MEMORY, reason="trial 0 ran out of memory in 1/4 of a GPU; …")]
    assert made.shares.give(trial).gpus == 0.3333


def test_there_is_a_verdict_on_memory_alone():
    made, trial = Made(), live(SMALL)
    failure = Failure(cause=Cause.GPU_MEMORY, reason="full", asked_bytes=MIB)
    assert made.shares.verdict_on(trial, failure) is None  # it holds no share yet
    made.shares.give(trial)
    assert made.shares.verdict_on(trial, failure).decision is Decision.REQUEUE
    assert made.shares.verdict_on(trial, Failure(cause=Cause.MEMORY, reason="RAM")) is None
