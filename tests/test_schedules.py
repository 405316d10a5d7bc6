"""Every row of SCHEDULES, value by value, against torch's own schedulers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.schedules import SCHEDULES, ScheduleConfig, build_schedule

STEPS = 300


def torch_factors(make: object, steps: int = STEPS) -> list[float]:
    """Learning rates of a torch scheduler over an optimiser with a rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)  # type: ignore[operator]
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def ours(name: str, steps: int = STEPS, **options: object) -> list[float]:
    factor = build_schedule(ScheduleConfig.parse({"name": name} | options), steps)
    return [factor(step) for step in range(steps)]


def test_multistep_is_torch_s() -> None:
    expected = torch_factors(lambda o: lr_scheduler.MultiStepLR(o, [50, 120, 180], gamma=0.3))
    assert ours("multistep", milestones=(50, 120, 180), gamma=0.3) == pytest.approx(expected)


def test_step_is_torch_s() -> None:
    expected = torch_factors(lambda o: lr_scheduler.StepLR(o, 70, gamma=0.4))
    assert ours("step", step_size=70, gamma=0.4) == pytest.approx(expected)


def test_cosine_is_torch_s() -> None:
    expected = torch_factors(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS))
    assert ours("cosine") == pytest.approx(expected, abs=1e-12)


def test_constant_is_constant() -> None:
    assert ours("constant") == [1.0] * STEPS


def test_warm_up_and_cosine_are_torch_s_in_sequence() -> None:
    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.SequentialLR:
        rise = lr_scheduler.LinearLR(optimizer, 1 / 20, 1.0, total_iters=19)
        fall = lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 20)
        return lr_scheduler.SequentialLR(optimizer, [rise, fall], [20])

    expected = torch_factors(make)
    assert ours("cosine", warmup_steps=20) == pytest.approx(expected, abs=1e-12)


def test_milestones_count_from_the_beginning_warm_up_included() -> None:
    plain = ours("multistep", milestones=(50, 120, 180))
    warm = ours("multistep", milestones=(50, 120, 180), warmup_steps=60)
    assert warm[60:] == plain[60:]
    assert warm[:60] == pytest.approx([(s + 1) / 60 * plain[s] for s in range(60)])


def test_multistep_halves_where_the_report_does() -> None:
    factor = build_schedule(ScheduleConfig(name="multistep"), 20_000)
    steps = (0, 4_999, 5_000, 11_999, 12_000, 17_999, 18_000)
    assert [factor(step) for step in steps] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_onecycle_rises_for_a_fifth_or_as_long_as_told_then_falls_to_nothing() -> None:
    for options, peak in (({}, 60), ({"warmup_steps": 30}, 30)):
        factors = ours("onecycle", **options)
        assert factors[0] == pytest.approx(0.04)
        assert factors.index(max(factors)) == peak
        assert factors[peak] == 1
        assert factors[: peak + 1] == sorted(factors[: peak + 1])
        assert factors[peak:] == sorted(factors[peak:], reverse=True)
        assert factors[-1] < 1e-3


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 400), st.data())
def test_every_factor_is_within_0_and_1(name: str, steps: int, data: st.DataObject) -> None:
    warmup_steps = data.draw(st.integers(0, steps))
    factors = ours(name, steps, warmup_steps=warmup_steps)
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "needs 1 step or more"),
        ({"warmup_steps": 11}, "set schedule.warmup_steps of 0 to 10, found 11"),
        ({"warmup_steps": -1}, "found -1"),
        ({"milestones": (5, 5)}, "milestones must rise"),
        ({"milestones": (0, 5)}, "milestones must rise"),
        ({"gamma": 0}, "'gamma': Input should be greater than 0"),
        ({"step_size": 0}, "'step_size': Input should be greater than or equal to 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ours("step", **{"steps": 10} | options)  # type: ignore[arg-type]


def test_an_unknown_schedule_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'onecycle'"):
        ours("one_cycle")
