"""The time limit that many calls share."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dataflow.gateways.time_limit import TimeLimit

LIMIT_S = 0.05


async def fate(call: Awaitable[str], limit: TimeLimit) -> str:
    try:
        return await limit.within(call)
    except TimeoutError:
        return "timeout"
    except ValueError:
        return "error"


async def at_once() -> str:
    return "answer"


async def after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


async def never() -> str:
    await asyncio.Event().wait()
    return ""


async def failing() -> str:
    raise ValueError


def test_a_call_that_hangs_ends_and_no_other_one() -> None:
    async def life() -> list[str]:
        limit = TimeLimit(LIMIT_S)
        calls: list[Awaitable[str]] = [never(), at_once(), failing(), never()]
        return await asyncio.gather(*(fate(each, limit) for each in calls))

    assert asyncio.run(life()) == ["timeout", "answer", "error", "timeout"]


def test_each_call_has_all_of_its_time() -> None:
    """One that begins while another one is waited for is not ended with it."""

    async def life() -> list[tuple[str, float]]:
        limit = TimeLimit(LIMIT_S)
        loop = asyncio.get_running_loop()

        async def later(pause_s: float) -> tuple[str, float]:
            await asyncio.sleep(pause_s)
            began_s = loop.time()
            return await fate(never(), limit), loop.time() - began_s

        return await asyncio.gather(*(later(n * LIMIT_S * 0.3) for n in range(6)))

    for found, took_s in asyncio.run(life()):
        assert found == "timeout"
        assert took_s >= LIMIT_S - 1e-3


def test_a_limit_works_again_after_a_pause() -> None:
    async def life() -> list[str]:
        limit = TimeLimit(LIMIT_S)
        found = []
        for call in (never(), at_once(), never()):
            found.append(await asyncio.create_task(fate(call, limit)))
            await asyncio.sleep(2 * LIMIT_S)
        return found

    assert asyncio.run(life()) == ["timeout", "answer", "timeout"]


def test_the_task_of_a_call_that_took_too_long_goes_on() -> None:
    async def life() -> tuple[str, str, int]:
        limit = TimeLimit(LIMIT_S)
        found = await fate(never(), limit), await fate(after(0.001), limit)
        task = asyncio.current_task()
        assert task is not None
        return *found, task.cancelling()

    assert asyncio.run(life()) == ("timeout", "answer", 0)


def test_an_outer_limit_ends_a_call_within_an_inner_one() -> None:
    async def life() -> str:
        outer, inner = TimeLimit(LIMIT_S), TimeLimit(3600)
        return await fate(inner.within(never()), outer)

    assert asyncio.run(life()) == "timeout"


@pytest.mark.parametrize("is_late", [False, True])
def test_a_call_that_is_cancelled_is_cancelled(is_late: bool) -> None:  # noqa: FBT001
    """Also in the turn of the loop in which its time is over."""

    async def life() -> bool:
        limit = TimeLimit(LIMIT_S)
        task = asyncio.create_task(limit.within(never()))
        await asyncio.sleep(0)
        cancel: Callable[[], object] = task.cancel
        if is_late:
            limit._tick(_Late(asyncio.get_running_loop()))  # type: ignore[arg-type]
        cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(life())


class _Late:
    """A loop whose clock is beyond all limits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        return self._loop.time() + 3600

    call_at = None
