"""Batches, overload, replaced models: what many requests at once get."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import httpx
import pytest
from serving_app import SQUARE, InkRecognizer, async_client_of, slot_of

from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.answers import Refused
from quickdraw_core.serving.web.batching import Batcher
from quickdraw_core.serving.web.config import Batching


async def ask(client: httpx.AsyncClient, x: int = 0, **more: object) -> httpx.Response:
    drawing = [[[x, 255], [0, 255]]]
    return await client.post("/api/guess", json={"drawing": drawing, **more})


def held(test: Callable[[httpx.AsyncClient, InkRecognizer], Awaitable[None]], **batching: int):
    """Runs a test while the first drawing, which the recognizer holds, keeps its one thread."""

    async def run() -> None:
        recognizer = InkRecognizer()
        slot = slot_of(recognizer)
        recognizer.batches.clear()
        async with async_client_of(slot, threads=1, batching=batching) as client:
            recognizer.may_go.clear()
            first = asyncio.create_task(ask(client))
            while not recognizer.batches:
                await asyncio.sleep(0.001)
            try:
                await test(client, recognizer)
            finally:
                recognizer.may_go.set()
            assert (await first).status_code == 200

    asyncio.run(run())


async def waiting_for(client: httpx.AsyncClient, count: int) -> None:
    """Waits until so many drawings wait for a batch."""
    while f"quickdraw_queue_drawings {count}.0" not in (await client.get("/metrics")).text:
        await asyncio.sleep(0.001)


def test_what_waits_is_guessed_together():
    async def test(client: httpx.AsyncClient, recognizer: InkRecognizer) -> None:
        tasks = [asyncio.create_task(ask(client, x)) for x in range(10)]
        await waiting_for(client, 10)
        recognizer.may_go.set()
        answers = await asyncio.gather(*tasks)
        drawings = [answer.json()["drawing"][0][0][0] for answer in answers]
        assert drawings == list(range(10))
        assert recognizer.batches == [1, 4, 4, 2]

    held(test, drawings=4)


def test_guesses_do_not_depend_on_the_batch():
    alone: list[object] = []

    async def test(client: httpx.AsyncClient, recognizer: InkRecognizer) -> None:
        tasks = [asyncio.create_task(ask(client, x)) for x in range(0, 240, 30)]
        await waiting_for(client, 8)
        recognizer.may_go.set()
        together = [answer.json() for answer in await asyncio.gather(*tasks)]
        alone.extend([(await ask(client, x)).json() for x in range(0, 240, 30)])
        assert together == alone

    held(test)


def test_a_drawing_that_cannot_be_guessed_harms_no_other_of_its_batch():
    async def test(client: httpx.AsyncClient, recognizer: InkRecognizer) -> None:
        recognizer.fails_at = (77, 0)
        tasks = [asyncio.create_task(ask(client, x)) for x in (1, 77, 3)]
        await waiting_for(client, 3)
        recognizer.may_go.set()
        statuses = [answer.status_code for answer in await asyncio.gather(*tasks)]
        assert statuses == [200, 500, 200]

    held(test)


def test_wrong_requests_between_right_ones_are_refused_alone():
    async def test(client: httpx.AsyncClient, recognizer: InkRecognizer) -> None:
        bodies = [{"drawing": SQUARE}, {"drawing": [[[True], [1]]]}, {"drawing": SQUARE}]
        tasks = [asyncio.create_task(client.post("/api/guess", json=body)) for body in bodies]
        await waiting_for(client, 2)
        recognizer.may_go.set()
        statuses = [answer.status_code for answer in await asyncio.gather(*tasks)]
        assert statuses == [200, 422, 200]

    held(test)


def test_under_overload_the_answer_is_503_at_once():
    async def test(client: httpx.AsyncClient, recognizer: InkRecognizer) -> None:
        tasks = [asyncio.create_task(ask(client, x)) for x in range(3)]
        await waiting_for(client, 3)
        refused = await asyncio.gather(*(ask(client, x) for x in range(20)))
        for answer in refused:  # while nothing is guessed
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "too many drawings are waiting" in answer.json()["error"]
        recognizer.may_go.set()
        assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {200}
        assert (await ask(client)).status_code == 200

    held(test, waiting=3)


def test_no_answer_in_time_is_503():
    async def run() -> None:
        recognizer = InkRecognizer()
        slot = slot_of(recognizer)
        recognizer.may_go.clear()
        async with async_client_of(slot, limits={"answer_seconds": 0.05}) as client:
            answer = await ask(client)
            recognizer.may_go.set()
            assert answer.status_code == 503
            assert "there was no guess within 0.05 seconds" in answer.json()["error"]

    asyncio.run(run())


def test_a_model_is_replaced_under_load_without_a_failed_request():
    async def run() -> None:
        slot: ModelSlot = slot_of(InkRecognizer(version="0"))
        versions: list[str] = []
        ended = threading.Event()

        def swap() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                slot.swap(InkRecognizer(version=str(number)))

        async def user(client: httpx.AsyncClient) -> None:
            for _ in range(20):
                answer = await ask(client)
                assert answer.status_code == 200
                versions.append(answer.json()["model"]["version"])

        async with async_client_of(slot) as client:
            thread = threading.Thread(target=swap)
            thread.start()
            try:
                await asyncio.gather(*(user(client) for _ in range(8)))
            finally:
                ended.set()
                thread.join()
        assert len(versions) == 160
        assert len(set(versions)) > 1

    asyncio.run(run())


def test_a_batch_waits_for_a_request_that_is_being_read():
    async def run() -> None:
        sizes: list[int] = []

        def compute(items):
            sizes.append(len(items))
            return items

        batcher = Batcher(compute, Batching(gather_ms=100))
        read = asyncio.Event()

        async def slowly() -> int:
            with batcher.arriving():
                await read.wait()
            return await batcher.submit(2)

        second = asyncio.create_task(slowly())
        await asyncio.sleep(0)
        first = asyncio.create_task(batcher.submit(1))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not sizes
        read.set()
        assert await asyncio.gather(first, second) == [1, 2]
        assert sizes == [2]
        with batcher.arriving():  # which takes its time
            assert await batcher.submit(3) == 3
        batcher.close()

    asyncio.run(run())


def test_a_slow_model_lets_fewer_wait():
    async def run() -> None:
        may_go = threading.Event()

        def compute(items):
            may_go.wait(60)
            return items

        batcher = Batcher(compute, Batching(drawings=2, wait_ms=1, waiting=1000))
        tasks = [asyncio.create_task(batcher.submit(n)) for n in range(2)]
        await asyncio.sleep(0.2)  # so long does the first batch take
        may_go.set()
        await asyncio.gather(*tasks)
        may_go.clear()
        tasks = [asyncio.create_task(batcher.submit(n)) for n in range(8)]
        await asyncio.sleep(0.01)
        refused = [task for task in tasks if task.done()]
        assert refused
        may_go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [r for r in results if isinstance(r, int)] == [0, 1, 2, 3][: 8 - len(refused)]
        assert all(isinstance(r, int | Refused) for r in results)
        batcher.close()

    asyncio.run(run())


@pytest.mark.parametrize("count", [1, 50])
def test_what_waits_at_the_end_is_answered(count):
    async def run() -> None:
        batcher = Batcher(lambda items: items, Batching())
        tasks = [asyncio.create_task(batcher.submit(n)) for n in range(count)]
        await asyncio.sleep(0)
        batcher.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(r, int | Refused) for r in results)

    asyncio.run(run())
