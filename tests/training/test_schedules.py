"""Schedules by the learning rates that come of them."""

import pytest
import torch

from hkbench.errors import UsageError
from hkbench.training.optimizers import OptimizerConfig, build_optimizer
from hkbench.training.schedules import SCHEDULES, build_schedule

STEPS = 100


def factors(name, warmup_steps=10, steps=STEPS):
    return [SCHEDULES[name](step, steps, warmup_steps) for step in range(steps + 1)]


@pytest.mark.parametrize("name", set(SCHEDULES) - {"one_cycle"})
def test_a_schedule_warms_up_in_a_line_and_starts_from_the_peak(name):
    assert factors(name)[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors(name)[10] == 1
    assert factors(name, warmup_steps=0)[0] == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_never_goes_over_the_peak_or_under_nothing(name):
    for steps in (1, 2, 3, STEPS):
        for warmup_steps in (0, 1, steps, 2 * steps):
            assert all(0 <= factor <= 1 for factor in factors(name, warmup_steps, steps))


def test_the_cosine_falls_to_nothing_and_is_halved_half_way():
    found = factors("cosine")
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[55] == pytest.approx(0.5)
    assert found[100] == pytest.approx(0)


def test_the_steps_are_a_tenth_at_half_and_at_three_quarters_of_the_way():
    found = factors("step")
    assert found[10:50] == [1] * 40
    assert found[50:75] == pytest.approx([0.1] * 25)
    assert found[75:100] == pytest.approx([0.01] * 25)


def test_one_cycle_rises_over_three_tenths_and_falls_to_nothing():
    found = factors("one_cycle")
    assert found[0] == pytest.approx(1 / 25)
    assert found[15] == pytest.approx((1 / 25 + 1) / 2)
    assert max(found) == found[30] == 1
    assert found[65] == pytest.approx(0.5)
    assert found[100] == pytest.approx(0)
    assert found == factors("one_cycle", warmup_steps=50)


def test_constant_stays():
    assert factors("constant")[10:] == [1] * 91


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_optimizer_steps_at_what_the_schedule_says_from_where_it_was_left(name):
    def optimizer_and_schedule():
        optimizer = build_optimizer(torch.nn.Linear(2, 2), OptimizerConfig(learning_rate=0.2))
        return optimizer, build_schedule(name, optimizer, steps=20, warmup_steps=4)

    def rates(optimizer, schedule, steps):
        for _ in range(steps):
            yield optimizer.param_groups[0]["lr"]
            optimizer.step()
            schedule.step()

    optimizer, schedule = optimizer_and_schedule()
    found = list(rates(optimizer, schedule, 12))
    resumed_optimizer, resumed = optimizer_and_schedule()
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    found += rates(resumed_optimizer, resumed, 8)
    assert found == pytest.approx([0.2 * SCHEDULES[name](step, 20, 4) for step in range(20)])


def test_an_unknown_schedule_is_refused_with_the_nearest():
    optimizer = build_optimizer(torch.nn.Linear(2, 2), OptimizerConfig())
    with pytest.raises(UsageError, match=r"no schedule 'cosin'\. Did you mean 'cosine'"):
        build_schedule("cosin", optimizer, steps=10, warmup_steps=1)
