-- Version 6 of the read model. Every row follows from the journal; the file may be deleted at any time.
-- Instants are UTC. Durations are seconds, sizes bytes unless the name says GB (10^9 bytes).

-- How far the journal is projected, written in the transaction of the rows themselves.
CREATE TABLE progress (
    stream VARCHAR PRIMARY KEY,
    created VARCHAR NOT NULL,
    seq BIGINT NOT NULL,
    schema_hash VARCHAR NOT NULL
);

-- One row for each event of the journal, refused ones included.
CREATE TABLE events (
    seq BIGINT NOT NULL,
    idx INTEGER NOT NULL,
    id VARCHAR,
    type VARCHAR,
    source VARCHAR,
    subject VARCHAR NOT NULL,
    entity VARCHAR,
    time TIMESTAMP,
    stored_at TIMESTAMP NOT NULL,
    correlation VARCHAR,
    data VARCHAR,
    refusal VARCHAR
);

CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    labels VARCHAR NOT NULL,
    opened_at TIMESTAMP NOT NULL,
    opened_by VARCHAR NOT NULL,
    seq BIGINT NOT NULL
);

CREATE TABLE tasks (
    task_id VARCHAR PRIMARY KEY,
    run_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    type VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker_id VARCHAR,
    hardware VARCHAR,
    queued_at TIMESTAMP NOT NULL,
    since TIMESTAMP NOT NULL,
    flaky BOOLEAN NOT NULL,
    upstream VARCHAR,
    submitted_by VARCHAR NOT NULL,
    document VARCHAR NOT NULL,
    seq BIGINT NOT NULL
);

CREATE TABLE attempts (
    task_id VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    worker_id VARCHAR NOT NULL,
    hardware VARCHAR NOT NULL,
    devices VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR,
    detail VARCHAR,
    assigned_at TIMESTAMP NOT NULL,
    started_at TIMESTAMP,
    finished_at TIMESTAMP,
    exit_code BIGINT,
    signal BIGINT,
    cpu_s DOUBLE,
    memory_bytes_peak BIGINT,
    output_bytes BIGINT,
    output_bytes_dropped BIGINT,
    artifacts VARCHAR,
    -- What it went on from, as ATTEMPT/NUMBER.
    resumed_from VARCHAR,
    -- Its latest stored checkpoint.
    checkpoint BIGINT,
    checkpoint_bytes BIGINT,
    checkpoint_at TIMESTAMP,
    -- Why none could be stored since.
    checkpoint_problem VARCHAR,
    -- What it may run at most; null without a limit.
    timeout_s DOUBLE,
    -- The task states none: it follows from earlier attempts of its signature.
    timeout_observed BOOLEAN NOT NULL,
    memory_limit_gb DOUBLE,
    -- The config that it ran, where that is the task's smaller variant; else null.
    fallback_config VARCHAR,
    PRIMARY KEY (task_id, attempt)
);

CREATE TABLE testcases (
    task_id VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    ordinal BIGINT NOT NULL,
    run_id VARCHAR NOT NULL,
    worker_id VARCHAR NOT NULL,
    nodeid VARCHAR NOT NULL,
    outcome VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    duration_s DOUBLE NOT NULL,
    message VARCHAR NOT NULL,
    output VARCHAR NOT NULL,
    file VARCHAR NOT NULL,
    line BIGINT,
    -- In the plan of its class of hardware; null where it stands in none.
    number BIGINT,
    -- Pairs of name and value as JSON; null where there are none.
    properties VARCHAR,
    suite_properties VARCHAR,
    seq BIGINT NOT NULL,
    PRIMARY KEY (task_id, attempt, ordinal)
);

-- A run of a suite, with the document that asked for it.
CREATE TABLE suites (
    run_id VARCHAR PRIMARY KEY,
    document VARCHAR NOT NULL,
    -- The entries of the list of known flaky tests.
    muted VARCHAR NOT NULL,
    seq BIGINT NOT NULL,
    phase VARCHAR NOT NULL DEFAULT 'submitted',
    -- Whether it is decided what runs where.
    divided BOOLEAN NOT NULL DEFAULT false,
    tests BIGINT NOT NULL DEFAULT 0,
    planned BIGINT NOT NULL DEFAULT 0,
    predicted_s DOUBLE NOT NULL DEFAULT 0,
    notes VARCHAR NOT NULL DEFAULT '[]',
    round BIGINT NOT NULL DEFAULT 0,
    -- Why it was ended before its tests had; null where it was not.
    cut VARCHAR,
    cut_detail VARCHAR NOT NULL DEFAULT '',
    cut_hint VARCHAR NOT NULL DEFAULT '',
    -- Null until it has ended.
    exit_code BIGINT,
    counts VARCHAR NOT NULL DEFAULT '{}'
);

-- Lists of tests, each once, in the order of collection.
CREATE TABLE lists (
    digest VARCHAR NOT NULL,
    -- Of a test, from 0; of a file that runs as a whole, from 10^9; of one that is only to be
    -- collected, from 2 * 10^9.
    number BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    nodeid VARCHAR NOT NULL,
    -- What names it where ids are new in each run; empty where nothing does.
    place VARCHAR NOT NULL
);

-- The list that a run has on a class of hardware.
CREATE TABLE suite_lists (
    run_id VARCHAR NOT NULL,
    hardware VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    seq BIGINT NOT NULL
);

-- Which of its tests run where: spans of numbers.
CREATE TABLE pools (
    run_id VARCHAR NOT NULL,
    hardware VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    -- Null where no session can run them.
    queue VARCHAR,
    cause VARCHAR NOT NULL,
    applies BOOLEAN NOT NULL,
    -- What they ask for beyond their class of hardware, in words.
    asked VARCHAR NOT NULL,
    sessions BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    idx BIGINT NOT NULL
);

-- Plans that clients told themselves, test by test; files to be collected have no number.
CREATE TABLE plans (
    run_id VARCHAR NOT NULL,
    hardware VARCHAR NOT NULL,
    number BIGINT,
    nodeid VARCHAR NOT NULL,
    -- Why no session can run it; empty for what is to run.
    cause VARCHAR NOT NULL,
    -- False for a test that is not made for this class of hardware.
    applies BOOLEAN NOT NULL,
    seq BIGINT NOT NULL,
    idx BIGINT NOT NULL
);

-- What a run is to prove, whoever planned it.
CREATE VIEW planned AS
SELECT run_id, hardware, number, nodeid, cause, applies, '' AS place, seq, idx FROM plans
UNION ALL
SELECT
    listed.run_id, listed.hardware, listed.number, listed.nodeid, pools.cause, pools.applies,
    listed.place, pools.seq, listed.number AS idx
FROM (
    SELECT suite_lists.run_id, suite_lists.hardware, lists.number, lists.nodeid, lists.place
    FROM suite_lists JOIN lists USING (digest)
) AS listed
ASOF JOIN pools -- no two spans of a plan overlap: the last that begins before holds it, or none
ON listed.run_id = pools.run_id AND listed.hardware = pools.hardware
    AND listed.number >= pools.first
WHERE listed.number <= pools.last
UNION ALL
SELECT
    suite_lists.run_id, suite_lists.hardware, NULL, lists.nodeid, '', true, '', suite_lists.seq,
    lists.number AS idx
FROM suite_lists JOIN lists USING (digest)
WHERE lists.kind = 'file' AND suite_lists.run_id IN (SELECT run_id FROM suites WHERE divided);

CREATE TABLE workers (
    worker_id VARCHAR PRIMARY KEY,
    incarnation VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    evidence VARCHAR NOT NULL,
    simulated BOOLEAN NOT NULL,
    slots BIGINT NOT NULL,
    cpus DOUBLE NOT NULL,
    memory_gb DOUBLE NOT NULL,
    hardware VARCHAR NOT NULL,
    device_type VARCHAR NOT NULL,
    capability VARCHAR NOT NULL,
    registered_at TIMESTAMP NOT NULL,
    running INTEGER NOT NULL,
    health DOUBLE NOT NULL, -- 0 to 100, when something last spoke for or against it; rises with time
    strikes INTEGER NOT NULL,
    guard VARCHAR NOT NULL,
    guard_cause VARCHAR NOT NULL,
    guard_until TIMESTAMP,
    quarantines INTEGER NOT NULL
);

-- Every breaker that ever opened, of workers, devices, signatures and revisions.
CREATE TABLE breakers (
    breaker_id VARCHAR PRIMARY KEY,
    guard VARCHAR NOT NULL,
    cause VARCHAR NOT NULL,
    count INTEGER NOT NULL,
    workers VARCHAR NOT NULL,
    probe VARCHAR,
    since TIMESTAMP NOT NULL,
    until TIMESTAMP
);

CREATE TABLE leaders (
    epoch BIGINT PRIMARY KEY,
    leader_id VARCHAR NOT NULL,
    previous_epoch BIGINT NOT NULL,
    host VARCHAR NOT NULL,
    elected_at TIMESTAMP NOT NULL,
    -- Version of the rules by which the term decides; 0 where it recorded none.
    rules INTEGER NOT NULL,
    -- What the term began with, as JSON; null where it recorded nothing.
    parameters VARCHAR
);

CREATE TABLE telemetry (
    seq BIGINT NOT NULL,
    worker_id VARCHAR NOT NULL,
    sampled_at TIMESTAMP NOT NULL,
    cpu_ratio DOUBLE,
    memory_used_bytes DOUBLE,
    memory_bytes DOUBLE,
    disk_free_bytes DOUBLE,
    disk_bytes DOUBLE,
    network_sent_bytes DOUBLE,
    network_received_bytes DOUBLE,
    facts_waiting DOUBLE,
    telemetry_shed DOUBLE,
    output_dropped_bytes DOUBLE
);

-- A run with the number of its tasks in each state.
CREATE VIEW run_summary AS
SELECT
    runs.run_id,
    runs.name,
    runs.labels,
    runs.opened_at,
    runs.opened_by,
    count(tasks.task_id) AS tasks,
    count(*) FILTER (tasks.status = 'passed') AS passed,
    count(*) FILTER (tasks.status = 'failed') AS failed,
    count(*) FILTER (tasks.status = 'errored') AS errored,
    count(*) FILTER (
        tasks.status = 'errored' AND tasks.reason IN (
            'crash_signal', 'collection_error', 'no_tests', 'missing_input', 'run_timeout',
            'idle_output_timeout', 'oom_task', 'oom_device', 'disk_quota', 'malformed_payload'
        )
    ) AS errored_by_work,
    count(*) FILTER (tasks.status = 'cancelled') AS cancelled,
    count(*) FILTER (tasks.status = 'skipped') AS skipped,
    count(*) FILTER (tasks.status = 'expired') AS expired,
    count(*) FILTER (tasks.status IN ('assigned', 'running', 'stopping')) AS running,
    count(*) FILTER (tasks.status IN ('blocked', 'queued', 'delayed', 'judged')) AS waiting,
    count(*) FILTER (tasks.flaky) AS flaky,
    max(tasks.since) AS changed_at
FROM runs LEFT JOIN tasks USING (run_id)
GROUP BY ALL;

-- How each test case stands: by the last attempt that reported it on its class of hardware.
CREATE VIEW testcase_verdicts AS
SELECT
    testcases.*,
    coalesce(json_extract_string(tasks.document, '$.labels.hardware_class'), '') AS hardware_class
FROM testcases JOIN tasks USING (task_id)
QUALIFY row_number() OVER (
    PARTITION BY
        testcases.run_id, hardware_class, coalesce(CAST(testcases.number AS VARCHAR), nodeid)
    ORDER BY testcases.seq DESC, ordinal DESC
) = 1;
