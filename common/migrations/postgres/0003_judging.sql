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
    SELECT CAST(gen_random_uuid() AS TEXT), alert_name, 'SQL Sentinel 0.1',
        CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT),
        CAST(EXTRACT(EPOCH FROM silenced_until) * 1000000 AS BIGINT)
    FROM sqlsentinel_state WHERE silenced_until > timezone('UTC', clock_timestamp());

-- Two kinds of notification more.
ALTER TABLE sqlsentinel_notifications DROP CONSTRAINT sqlsentinel_notifications_kind_check;
ALTER TABLE sqlsentinel_notifications ADD CONSTRAINT sqlsentinel_notifications_kind_check
    CHECK (kind IN ('alert', 'repeat', 'resolved', 'error', 'error_resolved', 'no_data'));
CREATE INDEX sqlsentinel_notifications_alerts ON sqlsentinel_notifications (alert_name, instance, route_key, sequence) WHERE kind IN ('alert', 'repeat');
