import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.datasets import ImageFolder

from benchmarks import search_speed
from benchmarks.peers.apart import _end, run_apart
from benchmarks.peers.online_kd import MEAN, STD, OnlineDistillation, distillation_loss, load_teacher, loaders
from benchmarks.peers.plan import PeerPlan, PeerRun, PeerSettings, documented, scaled_from, scaled_seconds
from benchmarks.peers.shared import keep_teacher, split_of, steps_of, write_densenet, write_parts, write_some
from benchmarks.peers.sweep import CONFIG, settings_to_try, sweep
from benchmarks.peers.tune_search import SEARCHED, timed_searches
from hkbench.config import usable_cores
from hkbench.data.build import build_store
from hkbench.data.sources import open_source
from hkbench.data.splits import load_split
from hkbench.errors import HkbenchError
from hkbench.spaces.file import load_space
from hkbench.training.losses import compute_loss, loss_config
from hkbench.training.teacher import find_teacher

PER_CLASS = 4
SIDE = 32
WHOLE = PeerRun(
    ray_start_s=3.0,
    fit_s=110.0,
    trials=4,
    concurrency=2,
    epochs=2,
    steps=10,
    first_batch_s=8.0,
    train_s=168.0,
    validation_s=32.0,
)
"""8 epochs of 1 s + 10 · 2 s + 4 s, two trials at once: 200 s of work in 100 s, and 10 s beside it."""


@pytest.fixture(scope="module")
def goods(tmp_path_factory):
    folder = tmp_path_factory.mktemp("goods")
    write_some(open_source("goods69"), folder, per_class=PER_CLASS)
    return open_source(str(folder))


@pytest.fixture(scope="module")
def teacher_and_plan(goods, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peer")
    split = split_of(goods)
    write_parts(goods, split, folder / "parts")
    recipe = load_space(str(search_speed.SPACE)).teacher
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HKBENCH_CACHE", str(folder / "cache"))
        kept = keep_teacher(recipe, goods, split)
        found = find_teacher(recipe, goods.fingerprint, split.hash)
    assert found is not None
    assert found.weights == kept.weights
    write_densenet(found.network(), folder / "teacher.pt")
    return found, PeerPlan(
        pictures=folder / "parts",
        teacher=folder / "teacher.pt",
        classes=len(goods.classes),
        image_size=SIDE,
        batch_size=4,
        trials=1,
        epochs=1,
        steps=1,
    )


@pytest.fixture(scope="module")
def plan(teacher_and_plan):
    return teacher_and_plan[1]


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.0), (2.0, 0.3), (10.0, 0.9)])
def test_the_tutorials_loss_is_hkbenchs_kd(temperature, alpha):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (4 * torch.randn(16, 69, generator=generator) for _ in range(2))
    labels = torch.randint(69, (16,), generator=generator)
    ours = compute_loss(student, labels, teacher, loss_config("kd", temperature=temperature, alpha=alpha))
    theirs = distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def test_the_split_is_the_one_that_hkbench_takes(goods):
    ours = load_split(build_store(goods, SIDE, workers=1), "random")
    assert split_of(goods).hash == ours.hash


@pytest.mark.parametrize("part", ["train", "validation"])
def test_the_folders_hold_the_pictures_and_labels_of_the_split(goods, plan, part):
    indices = getattr(split_of(goods), part)
    found = ImageFolder(str(plan.pictures / part))
    assert tuple(found.classes) == goods.classes
    in_folder = sorted((_hash(Path(path).read_bytes()), label) for path, label in found.samples)
    assert in_folder == sorted((_hash(goods.read(index)), goods.labels[index]) for index in indices)


def _hash(content):
    return hashlib.sha256(content).hexdigest()


def test_both_sides_take_the_same_steps(goods, plan):
    train, _ = loaders(plan, PeerSettings(workers=0, threads=1, channels_last=False, cpus=1))
    assert len(train) == steps_of(split_of(goods), plan.batch_size)


def test_the_peers_teacher_is_hkbenchs(teacher_and_plan):
    teacher, plan = teacher_and_plan
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        ours = teacher.network()(pictures)
        theirs = load_teacher(plan)((pictures - mean) / std)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-3)


def test_a_step_trains_the_student_and_leaves_the_teacher(plan):
    torch.manual_seed(0)
    trial = OnlineDistillation(CONFIG, plan, PeerSettings(workers=0, threads=1, channels_last=True, cpus=1))
    before = {name: tensor.clone() for name, tensor in trial.teacher.state_dict().items()}
    inputs, labels = next(iter(trial.train_loader))
    losses = [trial.step(inputs, labels) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in trial.teacher.state_dict().items())


def test_a_whole_run_scales_to_what_it_took():
    assert scaled_seconds(WHOLE, trials=4, epochs=2, steps=10) == pytest.approx(WHOLE.measured_s)
    assert scaled_from(WHOLE, trials=4, epochs=2, steps=10) == "measured whole"


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ({"trials": 24, "epochs": 2, "steps": 10}, 3 + 6 * 110),  # Ray's start once
        ({"trials": 5, "epochs": 2, "steps": 10}, 3 + 3 / 2 * 110),  # a third round for the fifth trial
        ({"trials": 4, "epochs": 6, "steps": 10}, 3 + 110 + 2 * 100),  # what is beside the epochs once
        ({"trials": 4, "epochs": 2, "steps": 20}, 3 + 110 + 80),  # first batches and validation as they were
    ],
)
def test_scaling_is_linear_in_what_grows(asked, seconds):
    assert scaled_seconds(WHOLE, **asked) == pytest.approx(seconds)
    assert f"of {asked['trials']} trials" in scaled_from(WHOLE, **asked)


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_the_sweep_tries_no_more_threads_than_cores(cores):
    tried = settings_to_try(cores)
    assert len(tried) == len(set(tried))
    for one in tried:
        assert one.concurrency(cores) * one.threads <= cores
    assert {one.concurrency(cores) for one in tried} >= {1, cores}
    assert documented(cores).concurrency(cores) >= 1


def test_both_sides_search_the_same_ranges():
    parameters = load_space(str(search_speed.SPACE)).parameters
    ours = {name: (one.low, one.high, "log" if one.log else "") for name, one in parameters.items()}
    assert ours == SEARCHED


def test_trials_that_leave_cores_idle_are_refused(plan):
    settings = PeerSettings(workers=0, threads=1, channels_last=False, cpus=1)
    cores = settings.concurrency(usable_cores())
    if cores == 1:
        pytest.skip("one core has no idle neighbour")
    with pytest.raises(HkbenchError, match=f"multiple of {cores}"):
        search_speed.tuned_part(
            replace(plan, trials=3 * cores),
            settings,
            search_speed.Options(peer_trials=cores + 1),
        )


@pytest.mark.ray
def test_a_search_with_ray_tune_comes_back_with_its_times(plan):
    (run,) = timed_searches([(plan, PeerSettings(workers=1, threads=1, channels_last=True, cpus=1))])
    assert (run.trials, run.concurrency, run.epochs, run.steps) == (1, 1, 1, 1)
    assert 0 < run.first_batch_s < run.train_s
    assert run.train_s + run.validation_s < run.fit_s


def test_the_sweep_measures_each_setting_it_was_given(plan):
    asked = [
        PeerSettings(workers=0, threads=1, channels_last=layout, cpus=usable_cores())
        for layout in (False, True)
    ]
    swept = sweep(plan, asked, steps=1)
    assert {one.settings for one in swept} == set(asked)
    assert swept[0].pictures_per_s >= swept[1].pictures_per_s > 0


def test_a_peer_that_fails_says_why(tmp_path):
    with pytest.raises(HkbenchError, match="KeyError"):
        run_apart("benchmarks.peers.sweep", {"no": "plan"})


def test_a_peer_that_is_ended_takes_its_children_along():
    child = "import sys; print('up', flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"up\n"
        _end(process)
        assert process.stdout.read() == b""  # its end comes when nobody holds the pipe any more
    assert process.returncode != 0
