"""One event of each type that says as much as it can: every field differs from its default."""

from datetime import UTC, datetime

from dtest.events import attempt, breaker, leader, policy, run, suite, task, worker
from dtest.events.catalogue import Payload
from dtest.events.fields import RunId, TaskId, WorkerId
from dtest.events.reasons import Reason, RefusalCode

AT = datetime(2026, 11, 22, 8, 15, 30, 250_000, tzinfo=UTC)
TASK, WORKER, RUN = TaskId("unit-4711"), WorkerId("lab-07"), RunId("nightly")
LABELS = {"commit": "8f3c2d1"}

REQUIREMENTS = task.Requirements(
    hardware=("cuda", "cpu"),
    min_memory_gb=8.0,
    min_device_memory_gb=16.0,
    min_cuda_compute=7.5,
    browser="chromium",
    device_type="server",
    labels=LABELS,
)
CAPABILITY = worker.Capability(
    slots=4,
    cpus=8.0,
    memory_gb=32.0,
    disk_gb=100.5,
    cpu_model="EPYC 9654",
    cpu_cores_physical=8,
    cpu_flags=("avx2",),
    os="Linux 6.8",
    arch="x86_64",
    device_type="desktop",
    devices=(
        worker.Device(
            "cuda", 1, "H100", memory_gb=80.0, compute=9.0, driver="570.86", declared=True
        ),
    ),
    browsers=(worker.Browser("firefox", "140.0", "/usr/bin/firefox", declared=True),),
    labels=LABELS,
    task_types=("command",),
    declared=("slots",),
    problems=("rocm: no permission for /dev/kfd",),
)

SAMPLES: dict[str, Payload] = {
    sample.TYPE: sample
    for sample in (
        run.RunOpened(RUN, "nightly of main", LABELS),
        run.RunCancelRequested(RUN, "superseded"),
        suite.SuitePlanned(
            RUN,
            2,
            hardware="cuda",
            tests=(
                suite.PlannedTest(0, "a.py::test_a"),
                suite.PlannedTest(1, "a.py::test_b", "asks for rocm, not cuda", applies=False),
            ),
            files=("broken.py",),
        ),
        task.TaskQueued(
            TASK,
            "command",
            {"command": ["/bin/true"], "simulate": {"seconds": 0}},
            run_id=RUN,
            name="unit tests",
            priority=1,
            requirements=REQUIREMENTS,
            resources=task.Resources(slots=2, cpus=1.5, memory_gb=2.0, devices=1),
            timeout_seconds=1800.0,
            idle_timeout_seconds=300.0,
            grace_seconds=10.0,
            memory_limit_gb=4.0,
            retry_policy=task.RetryPolicy(max_retries=3, retry_delay_seconds=60.0),
            dependencies=(TaskId("build-4711"),),
            dependency_rule="all_finished",
            deadline=AT,
            wait_limit_seconds=3600.0,
            labels=LABELS,
            fallback_config={"env": {"SIZE": "small"}},
            avoid_workers=(WORKER,),
        ),
        task.TaskCancelRequested(TASK, "superseded"),
        task.TaskRetryRequested(TASK, "the licence server is back"),
        task.TaskRetryScheduled(
            TASK,
            1,
            AT,
            Reason.WORKER_LOST,
            "infrastructure",
            1.5,
            task.Remedy(64.0, 24.0, 1.5, fallback=True, until=AT),
        ),
        task.TaskEnded(TASK, "skipped", Reason.DEPENDENCY_NEVER, TaskId("build-4711"), "failed"),
        attempt.AttemptAssigned(
            TASK,
            2,
            WORKER,
            "b68ceabfb083",
            "cuda",
            "command",
            run_id=RUN,
            config={"command": "true"},
            devices=("cuda:1",),
            timeout_seconds=1800.0,
            idle_timeout_seconds=300.0,
            grace_seconds=10.0,
            memory_limit_gb=4.0,
            checkpoint=attempt.Checkpoint(1, 7, "unit-4711/1/7", 4096, "0" * 64, AT),
            fallback=True,
            timeout_observed=True,
        ),
        attempt.AttemptStopRequested(TASK, 2, WORKER, Reason.CANCELLED_USER),
        attempt.AttemptStarted(TASK, 2, WORKER, AT, 4321),
        attempt.AttemptCheckpointed(TASK, 2, WORKER, 3, "unit-4711/2/3", 4096, "0" * 64, AT),
        attempt.AttemptCheckpointFailed(TASK, 2, WORKER, "disk is full"),
        attempt.AttemptRefused(TASK, 2, WORKER, "draining"),
        attempt.AttemptReleased(TASK, 2, WORKER, Reason.CANCELLED_PARENT),
        attempt.AttemptReturned(TASK, 2, WORKER, Reason.DEVICE_LOST),
        attempt.AttemptFinished(
            TASK,
            2,
            WORKER,
            "faulted",
            AT,
            AT,
            reason=Reason.CRASH_SIGNAL,
            detail="ended by signal 11",
            exit_code=-1,
            signal=11,
            cpu_s=1.25,
            memory_bytes_peak=123_456_789,
            output_bytes=1_000,
            output_bytes_dropped=10,
            artifacts=(attempt.Artifact("core", 4096, "0" * 64, "unit-4711/2/core"),),
        ),
        attempt.TestcaseFinished(
            TASK,
            2,
            WORKER,
            1,
            "tests/test_api.py::test_login[de]",
            "failed",
            phase="setup",
            duration_s=0.25,
            message="assert 500 == 200",
            output="…",
            file="tests/test_api.py",
            line=17,
            number=3,
            properties=(attempt.Property("requirement", "LAMP-17"),),
            suite_properties=(attempt.Property("firmware", "4.2"),),
        ),
        worker.WorkerRegistered(
            WORKER,
            "b68ceabfb083",
            "lab-07.example",
            CAPABILITY,
            simulated=True,
            agent_version="0.1.0",
            pid=4321,
            held=(worker.HeldAttempt(TASK, 2),),
        ),
        worker.WorkerDraining(WORKER, "b68ceabfb083", "stopped"),
        worker.WorkerLeft(WORKER, "b68ceabfb083"),
        worker.WorkerDrainRequested(WORKER, "new kernel"),
        worker.WorkerSuspected(WORKER, "b68ceabfb083", "silence", 5.5),
        worker.WorkerLost(WORKER, "b68ceabfb083", "silent for 5.5 s"),
        worker.WorkerQuarantined(WORKER, AT, 61.5, 2),
        worker.WorkerReinstated(WORKER, "probe_passed"),
        worker.WorkerQuarantineRequested(WORKER, "smells of smoke"),
        worker.WorkerReinstateRequested(WORKER, "new fan"),
        breaker.BreakerOpened("revision:8f3c2d1", AT, "fleet_guard", 2, (WORKER,)),
        breaker.BreakerHalfOpened("signature:command/unit", TASK, AT),
        breaker.BreakerClosed("worker:lab-07", "nothing_ran"),
        policy.PolicyChanged("pack", "minimal", "observed", {"breaker_threshold": 5}, ("jitter",)),
        leader.LeaderElected("s1", 17, "lab-01", "0.1.0", 1, {"jitter": 0.5}, {"minimal": {}}),
        leader.EventRefused(
            18, 1, RefusalCode.TASK_CONFLICT, "known", "dtest.main.client.ci.task.queued"
        ),
    )
}
