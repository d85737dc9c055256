-- The transition table's memory, as far as 0002 has no column for it.
-- alerting_since: the nominal time of the first ALERT since the last OK; told_at: of the newest outcome that was told
-- by `alert` or `repeat`. untold: a silence has kept something back, and receivers believe otherwise than
-- current_status says. condition_execution_id: the newest run that said what the alert is in.
ALTER TABLE sqlsentinel_state ADD COLUMN alerting_since BIGINT;
ALTER TABLE sqlsentinel_state ADD COLUMN told_at BIGINT;
ALTER TABLE sqlsentinel_state ADD COLUMN untold INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sqlsentinel_state ADD COLUMN no_data_untold INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sqlsentinel_state ADD COLUMN condition_execution_id TEXT;
CREATE INDEX sqlsentinel_state_untold ON sqlsentinel_state (alert_name) WHERE untold = 1;

-- What a notification that a sweep makes from the history has to say.
ALTER TABLE sqlsentinel_executions ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0;

-- Who silenced what, when, until when and why. Of an alert at most one is in force: ended_at is NULL, ends_at to come.
-- sqlsentinel_state.silenced_until says the same for the alert, as it did in the Python system.
CREATE TABLE sqlsentinel_silences (
    silence_id TEXT PRIMARY KEY,
    alert_name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    reason TEXT,
    begins_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    ended_at BIGINT,
    ended_by TEXT
);
CREATE INDEX sqlsentinel_silences_by_alert ON sqlsentinel_silences (alert_name, begins_at);

-- Silences of the Python system that are in force.
INSERT INTO sqlsentinel_silences (silence_id, alert_name, created_by, begins_at, ends_at)
    SELECT lower(hex(randomblob(16))), alert_name, 'SQL Sentinel 0.1',
        CAST(unixepoch('subsec') * 1000000 AS INTEGER), CAST(unixepoch(silenced_until, 'subsec') * 1000000 AS INTEGER)
    FROM sqlsentinel_state WHERE unixepoch(silenced_until, 'subsec') > unixepoch('subsec');

-- Two kinds of notification more. SQLite cannot change a CHECK: the table is made again, with its indexes.
CREATE TABLE sqlsentinel_notifications_new (
    notification_id TEXT PRIMARY KEY,
    execution_id TEXT NOT NULL,
    alert_name TEXT NOT NULL,
    instance TEXT NOT NULL,
    route_key TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('alert', 'repeat', 'resolved', 'error', 'error_resolved', 'no_data')),
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
INSERT INTO sqlsentinel_notifications_new
    SELECT notification_id, execution_id, alert_name, instance, route_key, channel, kind, sequence, scheduled_for,
        payload, status, attempt, claim_token, claimed_until, next_attempt_at, possible_duplicate, last_error,
        created_at, finished_at
    FROM sqlsentinel_notifications;
DROP TABLE sqlsentinel_notifications;
ALTER TABLE sqlsentinel_notifications_new RENAME TO sqlsentinel_notifications;
CREATE INDEX sqlsentinel_notifications_due ON sqlsentinel_notifications (next_attempt_at) WHERE status IN ('PENDING', 'SENDING');
CREATE INDEX sqlsentinel_notifications_lane ON sqlsentinel_notifications (alert_name, instance, route_key, sequence) WHERE status IN ('PENDING', 'SENDING');
CREATE INDEX sqlsentinel_notifications_by_execution ON sqlsentinel_notifications (execution_id);
CREATE INDEX sqlsentinel_notifications_errors ON sqlsentinel_notifications (alert_name, instance, route_key, sequence) WHERE kind = 'error';
CREATE INDEX sqlsentinel_notifications_alerts ON sqlsentinel_notifications (alert_name, instance, route_key, sequence) WHERE kind IN ('alert', 'repeat');
