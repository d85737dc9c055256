-- The transition table's memory of instances: of each that is not OK, or whose end has yet to be told. While there is
-- one, the row with the empty name is the alert's own memory, and sqlsentinel_state says the worst of all.
-- execution_id, scheduled_for, verdict: the newest run that said what the instance is in, and what it said.
CREATE TABLE sqlsentinel_instances (
    alert_name TEXT NOT NULL,
    instance TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('OK', 'PENDING', 'ALERT')),
    execution_id TEXT NOT NULL,
    scheduled_for BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    consecutive_alerts BIGINT NOT NULL,
    alerting_since BIGINT,
    told_at BIGINT,
    untold INTEGER NOT NULL,
    PRIMARY KEY (alert_name, instance)
);
