"""All drills by name."""

from dtest.drills import brokers, leader, readers, workers
from dtest.drills.drill import Drill
from dtest.drills.ground import Layout
from dtest.drills.load import Pace

_REAL_WORK = Pace(simulated_per_s=100.0, real_per_s=3.0, real_command=workers.COMMAND)

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
        Drill(
            "agent",
            "Kill an agent and start it again: the same processes go on, their output is whole.",
            workers.restart,
            runs=10,
            pace=_REAL_WORK,
            check=workers.adopted,
            promise="no process ran twice, all verdicts and all output are those of a quiet run",
            faults_allowed=False,
        ),
        Drill(
            "worker",
            "Kill a worker's machine, or have its agent hang, in turns; its work goes elsewhere.",
            workers.lose,
            runs=10,
            layout=Layout(workers=3),
            pace=_REAL_WORK,
            check=workers.verdicts_and_output,
            promise="all verdicts and all output are those of a quiet run",
        ),
        Drill(
            "worker-partition",
            "Cut a worker off from the broker; its work goes elsewhere, late results do not count.",
            workers.partition,
            runs=3,
            layout=Layout(behind_proxy=("agent local-1",)),
            pace=_REAL_WORK,
            check=workers.verdicts_and_output,
            promise="all verdicts and all output are those of a quiet run",
        ),
        Drill(
            "acknowledgements",
            "Keep every acknowledgement from a worker for a minute; each result counts once.",
            workers.drop_acknowledgements,
            runs=1,
            layout=Layout(behind_proxy=("agent local-1",)),
            pace=_REAL_WORK,
            check=workers.verdicts_and_output,
            promise="all verdicts and all output are those of a quiet run",
        ),
        Drill(
            "leader-partition",
            "Cut the leader off from the broker; a standby takes over, the old one is refused.",
            leader.partition,
            runs=3,
            layout=Layout(behind_proxy=("scheduler",)),
            faults_allowed=False,
        ),
        Drill(
            "brokers",
            "Kill every broker at once; they come back with all that was acknowledged.",
            brokers.kill_all,
            runs=5,
            nodes=(1, 3, 5),
            pace=_REAL_WORK,
            check=workers.adopted,
            promise="no process ran twice, all verdicts and all output are those of a quiet run",
            faults_allowed=False,
        ),
        Drill(
            "stream-leader",
            "Kill the broker that leads the journal's stream; the others elect, work goes on.",
            brokers.kill_stream_leader,
            runs=5,
            nodes=(3, 5),
            pace=_REAL_WORK,
            check=workers.adopted,
            promise="no process ran twice, all verdicts and all output are those of a quiet run",
            faults_allowed=False,
        ),
        Drill(
            "two-down",
            "Keep two of five brokers down, the stream's leader among them; work goes on.",
            brokers.two_down,
            runs=2,
            nodes=(5,),
            pace=_REAL_WORK,
            check=workers.adopted,
            promise="no process ran twice, all verdicts and all output are those of a quiet run",
            faults_allowed=False,
        ),
        Drill(
            "failover",
            "Kill the leader, then the broker that leads the stream: cluster sizes compared.",
            brokers.failover,
            runs=3,
            nodes=(1, 3, 5),
            faults_allowed=False,
        ),
        Drill(
            "projector",
            "Kill the projector again and again; its rows are exact.",
            readers.kill_projector,
            runs=20,
            pause_s=(0.0, 0.3),
            faults_allowed=False,
        ),
        Drill(
            "bit-flip",
            "Flip a bit of the stored journal, in a copy: no reader takes it for the truth.",
            brokers.flip_bit,
            runs=5,
            pace=Pace(simulated_per_s=100.0, real_per_s=1.0),
            faults_allowed=False,
        ),
    )
}
