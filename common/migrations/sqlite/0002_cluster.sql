-- What the cluster adds. Times are BIGINT, microseconds since the Unix epoch, UTC; ids are hyphenated UUIDs.

-- One row: the installation's name, born with this database.
CREATE TABLE sqlsentinel_cluster (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    cluster_id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- One row: who may change the ledger (epoch, term), and how far planning and publishing have come.
CREATE TABLE sqlsentinel_leadership (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL,
    term TEXT NOT NULL,
    seq BIGINT NOT NULL,
    holder TEXT NOT NULL,
    acquired_at BIGINT NOT NULL,
    planned_through BIGINT NOT NULL,
    published_epoch BIGINT NOT NULL,
    published_seq BIGINT NOT NULL,
    set_hash TEXT NOT NULL
);

-- Every set of definitions that was ever in force, so that a superseded file is recognised.
CREATE TABLE sqlsentinel_config_sets (
    set_hash TEXT PRIMARY KEY,
    adopted_at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL
);

-- A version's text is stored once, under its hash. It was in force for fires with
-- valid_from < scheduled_for <= valid_until (NULL: still in force).
CREATE TABLE sqlsentinel_definitions (
    config_hash TEXT PRIMARY KEY,
    alert_name TEXT NOT NULL,
    definition TEXT NOT NULL
);
ALTER TABLE sqlsentinel_configs ADD COLUMN valid_from BIGINT;
ALTER TABLE sqlsentinel_configs ADD COLUMN valid_until BIGINT;
ALTER TABLE sqlsentinel_configs ADD COLUMN epoch BIGINT;
ALTER TABLE sqlsentinel_configs ADD COLUMN seq BIGINT;
CREATE INDEX sqlsentinel_configs_in_force ON sqlsentinel_configs (alert_name) WHERE valid_from IS NOT NULL AND valid_until IS NULL;

-- The ledger: one row a fire, or one gap row for fires that were not run one by one.
CREATE TABLE sqlsentinel_fires (
    execution_id TEXT PRIMARY KEY,
    alert_name TEXT NOT NULL,
    scheduled_for BIGINT NOT NULL,
    config_hash TEXT NOT NULL,
    source TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('WAITING', 'QUEUED', 'OK', 'ALERT', 'ERROR', 'NO_DATA', 'SKIPPED', 'EXPIRED')),
    reason TEXT,
    deadline BIGINT NOT NULL,
    attempt INTEGER NOT NULL,
    queued_at BIGINT,
    finished_at BIGINT,
    late INTEGER NOT NULL DEFAULT 0,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    UNIQUE (alert_name, scheduled_for)
);
CREATE INDEX sqlsentinel_fires_open ON sqlsentinel_fires (alert_name, deadline) WHERE status IN ('WAITING', 'QUEUED');
CREATE INDEX sqlsentinel_fires_dispatch ON sqlsentinel_fires (epoch, seq) WHERE status = 'QUEUED';
CREATE INDEX sqlsentinel_fires_waiting ON sqlsentinel_fires (source, deadline) WHERE status = 'WAITING';

CREATE TABLE sqlsentinel_gaps (
    alert_name TEXT NOT NULL,
    first_scheduled_for BIGINT NOT NULL,
    last_scheduled_for BIGINT NOT NULL,
    fires BIGINT NOT NULL,
    reason TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (alert_name, first_scheduled_for)
);

-- A finished run: what the Python table has no column for.
ALTER TABLE sqlsentinel_executions ADD COLUMN scheduled_for BIGINT;
ALTER TABLE sqlsentinel_executions ADD COLUMN config_hash TEXT;
ALTER TABLE sqlsentinel_executions ADD COLUMN source TEXT;
ALTER TABLE sqlsentinel_executions ADD COLUMN attempt INTEGER;
ALTER TABLE sqlsentinel_executions ADD COLUMN delivery INTEGER;
ALTER TABLE sqlsentinel_executions ADD COLUMN worker TEXT;
ALTER TABLE sqlsentinel_executions ADD COLUMN error_kind TEXT;
ALTER TABLE sqlsentinel_executions ADD COLUMN actual_value_json TEXT;
ALTER TABLE sqlsentinel_executions ADD COLUMN threshold_json TEXT;
CREATE INDEX sqlsentinel_executions_by_alert ON sqlsentinel_executions (alert_name, executed_at);

-- The transition table's memory, one row an alert. current_status is the alert's state (OK, ALERT; NULL: unknown).
ALTER TABLE sqlsentinel_state ADD COLUMN last_scheduled_for BIGINT;
ALTER TABLE sqlsentinel_state ADD COLUMN last_execution_id TEXT;
ALTER TABLE sqlsentinel_state ADD COLUMN last_outcome TEXT;
ALTER TABLE sqlsentinel_state ADD COLUMN consecutive_errors INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sqlsentinel_state ADD COLUMN consecutive_no_data INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sqlsentinel_state ADD COLUMN error_notified INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sqlsentinel_state ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0;

-- The outbox. For one alert, instance and route, notifications leave in the order of sequence.
CREATE TABLE sqlsentinel_notifications (
    notification_id TEXT PRIMARY KEY,
    execution_id TEXT NOT NULL,
    alert_name TEXT NOT NULL,
    instance TEXT NOT NULL,
    route_key TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('alert', 'error', 'error_resolved', 'no_data')),
    sequence BIGINT NOT NULL,
    scheduled_for BIGINT NOT NULL,
    payload TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('PENDING', 'SENDING', 'SENT', 'DEAD', 'SKIPPED')),
    attempt INTEGER NOT NULL,
    claim_token TEXT,
    claimed_until BIGINT,
    next_attempt_at BIGINT NOT NULL,
    possible_duplicate INTEGER NOT NULL,
    last_error TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX sqlsentinel_notifications_due ON sqlsentinel_notifications (next_attempt_at) WHERE status IN ('PENDING', 'SENDING');
CREATE INDEX sqlsentinel_notifications_lane ON sqlsentinel_notifications (alert_name, instance, route_key, sequence) WHERE status IN ('PENDING', 'SENDING');
CREATE INDEX sqlsentinel_notifications_by_execution ON sqlsentinel_notifications (execution_id);
CREATE INDEX sqlsentinel_notifications_errors ON sqlsentinel_notifications (alert_name, instance, route_key, sequence) WHERE kind = 'error';
