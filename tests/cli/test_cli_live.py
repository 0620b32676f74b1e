"""What a search shows while it goes on, at the width of a small terminal."""

import io

import pytest
from rich.console import Console

from hkbench.cli.live import LiveTable, PlainLines, minutes
from hkbench.driver.plan import SearchPlan
from hkbench.spaces.file import load_space
from hkbench.spaces.settings import settings_of
from hkbench.store.records import EpochRecord, TrialRecord

SETTINGS = settings_of(
    {"model": "efficientnet_lite0_cut4", "loss": "kd", "temperature": 2, "alpha": 0.3, "learning_rate": 0.003}
)


@pytest.fixture
def plan(tmp_path):
    return SearchPlan(space=load_space("distill"), out=tmp_path / "run")


def epoch(number, at, accuracy):
    return EpochRecord(
        trial=number, epoch=at, train_loss=1, learning_rate=0.1, seconds=1, metrics={"accuracy": accuracy}
    )


def ended(number, state):
    return TrialRecord(
        number=number,
        state=state,
        reason="beaten" if state == "PRUNED" else None,
        params={},
        model="m",
        image_size=56,
        loss="kd",
        weight_hard=0.3,
        weight_soft=2.8,
        epochs=2,
        values={},
    )


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_table_keeps_its_figures_at_any_width(plan, width):
    view = LiveTable(plan)
    for number in range(20):
        view.trial_started(number, SETTINGS, "study" if number == 0 else None)
        view.trial_epoch(epoch(number, 2, 0.9 if number == 1 else 0.5))
    view.trial_ended(ended(1, "COMPLETE"))
    view.trial_ended(ended(19, "PRUNED"))
    page = io.StringIO()
    Console(file=page, width=width).print(view.table(width))
    lines = page.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split() == ["trial", "epoch", "accuracy", "state", "point"]
    best = next(line for line in lines if line.split()[0] == "1")
    assert best.split()[:4] == ["1", "2/6", "90.0%", "done"]
    assert lines[-1].split()[:4] == ["19", "2/6", "50.0%", "stopped"]


def test_plain_lines_say_what_happens(plan, capsys):
    view = PlainLines(plan)
    view.phase("search")
    view.trial_started(3, SETTINGS, "study")
    view.trial_epoch(epoch(3, 1, 0.25))
    view.trial_ended(ended(3, "PRUNED"))
    said = [line.split("  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "search …",
        "trial 3 (study): efficientnet_lite0_cut4 64px, T 2 α 0.30, sgd 0.003",
        "trial 3, epoch 1 of 6: 25.0%",
        "trial 3 stopped after 2 epochs: beaten",
    ]


def test_a_training_says_how_long_it_will_take_once_an_epoch_is_done(plan):
    view = LiveTable(plan)
    view.phase("train")
    view.trial_started(0, SETTINGS, None)
    view.advance(3, 120)
    console = Console(file=io.StringIO(), width=100)
    console.print(view._draw())
    assert "3 of 120 steps" in console.file.getvalue()
    assert "left" not in console.file.getvalue()
    view.trial_epoch(epoch(0, 1, 0.25))
    console.print(view._draw())
    assert "left" in console.file.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0m00s"), (65.4, "1m05s"), (3599.6, "60m00s")])
def test_minutes(seconds, text):
    assert minutes(seconds) == text
