"""All drills by name."""

from dtest.drills import leader
from dtest.drills.drill import Drill

DRILLS = {
    drill.name: drill
    for drill in (
        Drill(
            "leader",
            "Kill the leader by -9 and stop it by SIGSTOP, in turns; a standby takes over.",
            leader.kill_or_stop,
            runs=10,
            faults_allowed=False,
        ),
        Drill(
            "leader-seven",
            "End the leader's term seven times: by TERM, by -9, by SIGSTOP.",
            leader.any_way,
            runs=7,
            faults_allowed=False,
        ),
    )
}
