"""The time that is left, by a clock that the tests turn."""

from collections.abc import Sequence

import pytest

from heatproof.answers.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def factors(steps: Sequence[tuple[float, float]], **how) -> list[float]:
    """Told over true time left, after each of ``(seconds, count)`` once a tenth is done and while something is left."""
    clock = Clock()
    total = sum(count for _, count in steps)
    pace = Pace(total, clock=clock, **how)
    end = clock.now + sum(seconds for seconds, _ in steps)
    found = []
    for seconds, count in steps:
        clock.now += seconds
        pace.add(count)
        done = pace.done >= 0.1 * total - 1e-9
        if done and end - clock.now > 1e-6:
            found.append(pace.left / (end - clock.now) if pace.left is not None else 0.0)
    return found


def within(found: list[float], factor: float = 1.5) -> bool:
    return bool(found) and all(1 / factor <= one <= factor for one in found)


def test_equal_steps_are_told_exactly() -> None:
    assert factors([(2.0, 3)] * 20) == pytest.approx([1.0] * 18)


def test_what_the_start_costs_is_no_part_of_the_speed() -> None:
    # 60 s until the first photo, 0.1 s for each then
    assert within(factors([(60.0, 0), *[(0.1, 1)] * 100]))
    # and where nobody says that the work begins
    assert within(factors([(60.1, 1), *[(0.1, 1)] * 99]))


def test_what_an_earlier_start_did_took_no_time() -> None:
    kept = [(0.5, 600), *[(1.0, 1)] * 400]
    assert within(factors(kept, resumed=True)[1:])
    # the control: else most of the photos would seem to come for nothing at first
    assert factors(kept)[0] < 0.01


@pytest.mark.parametrize("evaluation", [0.0, 5.0, 60.0])
def test_a_fooling_with_its_evaluations(evaluation: float) -> None:
    """1,000 steps, an evaluation before the first and after each 50: within a factor of 1.5 from step 100 on."""
    steps = [(evaluation + 1.0, 1), *[(1.0 + (evaluation if step % 50 == 0 else 0), 1) for step in range(2, 1001)]]
    found = factors(steps, cycle=50)
    # what remains of the last cycles is told less surely
    assert within(found[:800], 1.3)
    assert within(found[:-60])


def test_before_the_first_evaluation_the_one_at_the_start_tells() -> None:
    steps = [(61.0, 1), *[(1.0 + (60.0 if step % 50 == 0 else 0), 1) for step in range(2, 201)]]
    assert within(factors(steps, cycle=50)[:25])


def test_a_machine_that_slows_down_is_noticed() -> None:
    found = factors([*[(1.0, 1)] * 20, *[(3.0, 1)] * 180])
    assert within(found[30:])


def test_the_time_runs_while_nothing_is_told() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock)
    clock.now += 10
    pace.add(5)
    assert pace.left == pytest.approx(10)
    clock.now += 4
    assert pace.left == pytest.approx(6)
    clock.now += 40
    assert pace.left == 0


def test_processes_share_the_work() -> None:
    clock = Clock()
    pace = Pace(100, sharers=2, clock=clock)
    clock.now += 10
    pace.add(10)
    # this one does 50, of which 40 remain
    assert pace.left == pytest.approx(40)
    assert pace.counted() == "20 of 100"


def test_lines_come_once_a_second_and_rarely_in_long_work() -> None:
    clock = Clock()
    pace = Pace(None, clock=clock)
    said = []
    for _ in range(10 * 3600 * 10):
        clock.now += 0.1
        if pace.due():
            said.append(clock.now - 1000)
    assert said[:5] == pytest.approx([1, 2, 3, 4, 5], abs=0.2)
    # ten hours: a line for each thirtieth
    assert 200 < len(said) < 300


def test_words() -> None:
    clock = Clock()
    pace = Pace(400, clock=clock)
    assert pace.words() == "0 of 400"
    clock.now += 100
    pace.add(100.5)
    assert pace.words() == "100 of 400, about 5 min left"
    assert pace.words(at_most=True) == "100 of 400, at most about 5 min left"
    assert Pace(None, clock=clock).words() == "0"
