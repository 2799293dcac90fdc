-- name: events
INSERT INTO events SELECT * FROM batch;

-- name: runs
INSERT INTO runs SELECT * FROM batch
ON CONFLICT (run_id) DO UPDATE SET name = excluded.name, labels = excluded.labels;

-- name: tasks_new
INSERT OR IGNORE INTO tasks SELECT * FROM batch;

-- name: tasks_changed
UPDATE tasks SET
    status = batch.status,
    reason = batch.reason,
    attempt = batch.attempt,
    worker_id = batch.worker_id,
    hardware = batch.hardware,
    since = batch.since,
    flaky = batch.flaky,
    upstream = batch.upstream
FROM batch WHERE tasks.task_id = batch.task_id;

-- name: attempts_new
INSERT OR IGNORE INTO attempts SELECT * FROM batch;

-- name: attempts_changed
UPDATE attempts SET
    status = batch.status,
    reason = batch.reason,
    detail = coalesce(batch.detail, attempts.detail),
    started_at = coalesce(attempts.started_at, batch.started_at),
    finished_at = coalesce(batch.finished_at, attempts.finished_at),
    exit_code = coalesce(batch.exit_code, attempts.exit_code),
    signal = coalesce(batch.signal, attempts.signal),
    cpu_s = coalesce(batch.cpu_s, attempts.cpu_s),
    memory_bytes_peak = coalesce(batch.memory_bytes_peak, attempts.memory_bytes_peak),
    output_bytes = coalesce(batch.output_bytes, attempts.output_bytes),
    output_bytes_dropped = coalesce(batch.output_bytes_dropped, attempts.output_bytes_dropped),
    artifacts = coalesce(batch.artifacts, attempts.artifacts)
FROM batch WHERE attempts.task_id = batch.task_id AND attempts.attempt = batch.attempt;

-- name: checkpoints
UPDATE attempts SET
    checkpoint = coalesce(batch.checkpoint, attempts.checkpoint),
    checkpoint_bytes = coalesce(batch.checkpoint_bytes, attempts.checkpoint_bytes),
    checkpoint_at = coalesce(batch.checkpoint_at, attempts.checkpoint_at),
    checkpoint_problem = batch.checkpoint_problem
FROM batch WHERE attempts.task_id = batch.task_id AND attempts.attempt = batch.attempt;

-- name: testcases
INSERT OR IGNORE INTO testcases SELECT * FROM batch;

-- name: plans
INSERT INTO plans SELECT * FROM batch;

-- name: suites_new
INSERT OR IGNORE INTO suites (run_id, document, muted, seq) SELECT * FROM batch;

-- name: suites
UPDATE suites SET
    phase = batch.phase,
    divided = batch.divided,
    tests = batch.tests,
    planned = batch.planned,
    predicted_s = batch.predicted_s,
    notes = batch.notes,
    round = batch.round,
    cut = batch.cut,
    cut_detail = batch.cut_detail,
    cut_hint = batch.cut_hint,
    exit_code = batch.exit_code,
    counts = batch.counts
FROM batch WHERE suites.run_id = batch.run_id;

-- name: lists
INSERT INTO lists SELECT * FROM batch;

-- name: suite_lists
INSERT INTO suite_lists SELECT * FROM batch;

-- name: pools
INSERT INTO pools SELECT * FROM batch;

-- name: workers
INSERT OR REPLACE INTO workers SELECT * FROM batch;

-- name: breakers
INSERT OR REPLACE INTO breakers SELECT * FROM batch;

-- name: leaders
INSERT OR IGNORE INTO leaders SELECT * FROM batch;

-- name: drop_telemetry
DELETE FROM telemetry;

-- name: telemetry
INSERT INTO telemetry SELECT * FROM batch;

-- name: progress_moved
UPDATE progress SET created = ?, seq = ?, schema_hash = ? WHERE stream = ?;

-- name: progress_begun
INSERT INTO progress (created, seq, schema_hash, stream) VALUES (?, ?, ?, ?);

-- name: forget_telemetry
DELETE FROM telemetry WHERE sampled_at < (SELECT max(sampled_at) FROM telemetry) - INTERVAL 1 DAY;
