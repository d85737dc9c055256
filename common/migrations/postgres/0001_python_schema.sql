-- The tables of the Python system (0.1.x), with their names and meaning: an existing database passes through unchanged.

CREATE TABLE IF NOT EXISTS sqlsentinel_executions (
    id TEXT PRIMARY KEY,
    alert_name TEXT NOT NULL,
    executed_at TIMESTAMP NOT NULL,
    execution_duration_ms DOUBLE PRECISION,
    status TEXT NOT NULL,
    actual_value DOUBLE PRECISION,
    threshold DOUBLE PRECISION,
    query TEXT,
    error_message TEXT,
    triggered_by TEXT NOT NULL DEFAULT 'CRON',
    notification_sent BOOLEAN NOT NULL DEFAULT FALSE,
    notification_error TEXT,
    context_data JSON
);

CREATE TABLE IF NOT EXISTS sqlsentinel_state (
    alert_name TEXT PRIMARY KEY,
    last_executed_at TIMESTAMP,
    last_alert_at TIMESTAMP,
    last_ok_at TIMESTAMP,
    consecutive_alerts INTEGER NOT NULL DEFAULT 0,
    consecutive_oks INTEGER NOT NULL DEFAULT 0,
    current_status TEXT,
    silenced_until TIMESTAMP,
    escalation_count INTEGER NOT NULL DEFAULT 0,
    notification_failures INTEGER NOT NULL DEFAULT 0,
    last_notification_channel TEXT,
    updated_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS sqlsentinel_configs (
    id TEXT PRIMARY KEY,
    alert_name TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    config_yaml TEXT NOT NULL,
    loaded_at TIMESTAMP NOT NULL,
    active BOOLEAN NOT NULL DEFAULT TRUE
);
