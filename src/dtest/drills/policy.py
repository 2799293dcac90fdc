"""A drill on parameters: changed under load, again and again, with another leader in between."""

from typing import Any

from dtest.drills.checks import events_of
from dtest.drills.drill import Scene
from dtest.drills.leader import kill
from dtest.drills.load import seen_within
from dtest.drills.report import Injection
from dtest.events.parameters import Numbers
from dtest.events.policy import PolicyChanged
from dtest.journal.port import Stored

DECIDED_S_MAX = 30.0


async def change(scene: Scene, number: int) -> Injection:
    """Set parameters and kill the leader at once; reset some under the next one.

    Recovered is when a client sees the first assignment of the next leader.
    """
    await _choose(scene, PolicyChanged(parameters=_drawn(scene)))
    injection = await kill(scene, number)
    changed_at = await _choose(
        scene, PolicyChanged(parameters=_drawn(scene), reset=("rejoin_s_max", "jitter"))
    )
    await _decided(scene, changed_at)
    return injection


def _drawn(scene: Scene) -> Numbers:
    """Draw values; how much one decision holds shows in nearly every decision under load."""
    rng = scene.rng
    return {
        "assignments_max": rng.choice([1, 2, 3, 5, 50]),
        "ageing_s_per_level": rng.uniform(0.0, 90.0),
        "keep_room_after_s": rng.uniform(0.0, 20.0),
        "faults_max": rng.randint(2, 6),
        "fault_delay_s": rng.uniform(0.0, 2.0),
        "rejoin_s_max": rng.uniform(1.0, 4.0),
        "jitter": rng.random(),
    }


async def _choose(scene: Scene, choice: PolicyChanged) -> int:
    """Record a choice; return where it stands in the journal."""
    return (await scene.ground.client("drill").say([choice]))[0].seq


async def _decided(scene: Scene, changed_at: int) -> None:
    """Wait until something is assigned after the message of a change. Raises TimedOut."""

    def is_later(kind: str, _: object, stored: Stored) -> bool:
        return kind == "attempt.assigned" and stored.seq > changed_at

    async with scene.watcher.expecting(is_later) as assigned:
        await seen_within(assigned, DECIDED_S_MAX, "an assignment after the change")


async def choices_are_in_force(scene: Scene) -> list[str]:
    """Compare what the read model says was chosen with what the raw messages say."""
    chosen: dict[str, Any] = {}
    for stored in scene.watcher.messages:
        for kind, data in events_of(stored):
            if kind == "policy.changed":
                for name in data.get("reset", ()):
                    chosen.pop(name, None)
                chosen |= data.get("parameters", {})
    last = scene.watcher.messages[-1].seq
    async with scene.ground.api() as api:
        answer = await api.get("/api/policy", params={"after": last})
        shown = answer.raise_for_status().json()
    wrong = [
        f"{name} was set to {value}, and {shown['parameters'][name]} is in force"
        for name, value in chosen.items()
        if shown["parameters"][name] != value
    ]
    if shown["chosen"] != chosen:
        wrong.append(f"{shown['chosen']} is shown as chosen, and {chosen} was")
    return wrong
