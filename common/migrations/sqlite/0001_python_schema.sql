-- The tables of the Python system (0.1.x), with their names and meaning: an existing database passes through unchanged.

CREATE TABLE IF NOT EXISTS sqlsentinel_executions (
    id TEXT PRIMARY KEY,
    alert_name TEXT NOT NULL,
    executed_at DATETIME NOT NULL,
    execution_duration_ms FLOAT,
    status TEXT NOT NULL,
    actual_value FLOAT,
    threshold FLOAT,
    query TEXT,
    error_message TEXT,
    triggered_by TEXT NOT NULL DEFAULT 'CRON',
    notification_sent BOOLEAN NOT NULL DEFAULT FALSE,
    notification_error TEXT,
    context_data JSON
);

CREATE TABLE IF NOT EXISTS sqlsentinel_state (
    alert_name TEXT PRIMARY KEY,
    last_executed_at DATETIME,
    last_alert_at DATETIME,
    last_ok_at DATETIME,
    consecutive_alerts INTEGER NOT NULL DEFAULT 0,
    consecutive_oks INTEGER NOT NULL DEFAULT 0,
    current_status TEXT,
    silenced_until DATETIME,
    escalation_count INTEGER NOT NULL DEFAULT 0,
    notification_failures INTEGER NOT NULL DEFAULT 0,
    last_notification_channel TEXT,
    updated_at DATETIME
);

CREATE TABLE IF NOT EXISTS sqlsentinel_configs (
    id TEXT PRIMARY KEY,
    alert_name TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    config_yaml TEXT NOT NULL,
    loaded_at DATETIME NOT NULL,
    active BOOLEAN NOT NULL DEFAULT TRUE
);
