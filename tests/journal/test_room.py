"""Clients leave the last part of the journal to results; who must write waits for room."""

import asyncio
from dataclasses import replace

import pytest

from dtest.errors import JournalFull, Unavailable, UsageError
from dtest.journal import patient as patient_module
from dtest.journal.memory import MemoryJournal
from dtest.journal.patient import PatientJournal
from dtest.journal.port import Appended, Bounds, Outgoing
from dtest.journal.room import DOCUMENT_COPIES, LOOK_EVERY_S, TASK_BYTES, Filling, JournalRoom
from dtest.settings import LIMITS as SETTABLE
from dtest.settings import Setting, Settings
from tests.kit.agent import FickleJournal
from tests.kit.nats import eventually

MAX_BYTES = 1_000_000


class Tank(MemoryJournal):
    """A journal that says how full it is."""

    def __init__(self, used_bytes: int = 0, max_bytes: int | None = MAX_BYTES) -> None:
        super().__init__(clock=lambda: 0.0)
        self.used_bytes = used_bytes
        self.max_bytes = max_bytes
        self.looks = 0

    async def bounds(self) -> Bounds:
        self.looks += 1
        found = await super().bounds()
        return replace(found, used_bytes=self.used_bytes, max_bytes=self.max_bytes)


class Watch:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def room_of(tank: Tank, watch: Watch | None = None) -> JournalRoom:
    return JournalRoom(tank, reserve_ratio=0.1, monotonic=watch or Watch())


def cost(document_bytes: int, tasks: int) -> int:
    return DOCUMENT_COPIES * document_bytes + TASK_BYTES * tasks


async def test_a_submission_fits_up_to_the_reserve_and_not_beyond() -> None:
    free = cost(1_000, 1)
    await room_of(Tank(900_000 - free)).admit(1_000, tasks=1)

    room = room_of(Tank(900_000 - free + 1))
    with pytest.raises(JournalFull) as raised:
        await room.admit(1_000, tasks=1)

    assert "100000 are kept" in str(raised.value)
    assert "dtest server migrate --journal-bytes" in raised.value.hint
    assert room.refused == 1


async def test_what_is_unfinished_will_be_written_about() -> None:
    used = 900_000 - 10 * TASK_BYTES - cost(0, 1)
    await room_of(Tank(used)).admit(0, tasks=1, unfinished=10)
    with pytest.raises(JournalFull):
        await room_of(Tank(used)).admit(0, tasks=1, unfinished=11)


async def test_what_was_admitted_since_the_last_look_counts() -> None:
    tank, watch = Tank(900_000 - cost(0, 3)), Watch()
    room = room_of(tank, watch)
    for _ in range(3):
        await room.admit(0, tasks=1)
    with pytest.raises(JournalFull):
        await room.admit(0, tasks=1)
    assert tank.looks == 1

    watch.now += LOOK_EVERY_S  # it turned out to be less
    await room.admit(0, tasks=1)
    assert tank.looks == 2


async def test_a_journal_without_a_limit_takes_everything() -> None:
    room = room_of(Tank(10**15, max_bytes=None))

    await room.admit(10**9, tasks=10**6, unfinished=10**6)

    assert (await room.filling(unfinished=5)).state == "open"


@pytest.mark.parametrize(
    ("used_bytes", "state"),
    [
        (0, "open"),
        (899_999, "open"),
        (900_000, "reserved"),
        (949_999, "reserved"),
        (950_000, "full"),
    ],
)
def test_the_filling_has_a_name(used_bytes: int, state: str) -> None:
    assert Filling(used_bytes, MAX_BYTES, 100_000).state == state


# -- patience -------------------------------------------------------------------------------------


async def test_an_append_waits_for_room_and_is_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_module, "AGAIN_S_MIN", 0.001)
    journal = FickleJournal()
    journal.refusal = JournalFull("full", hint="raise it")
    refusals: list[int] = []
    patient = PatientJournal(journal, refused=lambda: refusals.append(1))
    message = Outgoing("dtest.main.client.x.task.queued", b"{}", "m1")

    async with asyncio.TaskGroup() as group:
        appending = group.create_task(patient.append(message))
        await eventually(lambda: len(refusals) >= 3)
        assert not appending.done()
        journal.refusal = None

    assert appending.result() == Appended(1)
    assert (await patient.bounds()).last == 1


async def test_a_batch_waits_for_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_module, "AGAIN_S_MIN", 0.001)
    journal = MemoryJournal(clock=lambda: 0.0, messages_max=1)
    patient = PatientJournal(journal)
    batch = [Outgoing("dtest.main.x", b"{}", name) for name in ("a", "b")]

    async with asyncio.TaskGroup() as group:
        appending = group.create_task(patient.append_batch(batch))
        await asyncio.sleep(0)
        journal._messages_max = 2  # noqa: SLF001 - more room

    assert appending.result() == Appended(2)


async def test_who_is_away_is_not_waited_for() -> None:
    journal = FickleJournal()
    journal.refusal = Unavailable("away")

    with pytest.raises(Unavailable, match="away"):
        await PatientJournal(journal).append(Outgoing("dtest.main.x", b"", "m"))


async def test_a_full_journal_is_not_pestered() -> None:
    journal = FickleJournal()
    journal.refusal = JournalFull("full")
    async with asyncio.TaskGroup() as group:
        appending = group.create_task(
            PatientJournal(journal).append(Outgoing("dtest.main.x", b"", "m"))
        )
        await eventually(lambda: journal.attempts >= 1)
        for _ in range(500):
            await asyncio.sleep(0)
        assert journal.attempts == 1
        appending.cancel()


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(SETTABLE))
def test_every_limit_has_a_default_and_says_what_is_wrong_with_another(key: str) -> None:
    assert Settings({}).limit(key) == float(SETTABLE[key][0])
    assert Settings({key: Setting("0", "here")}).limit(key) == 0
    for wrong in ("-1", "many", "inf", "nan"):
        with pytest.raises(UsageError, match=f"{key} is '{wrong}' \\(here\\)"):
            Settings({key: Setting(wrong, "here")}).limit(key)
