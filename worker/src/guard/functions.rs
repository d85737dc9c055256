//! The functions that no alert may call: each does something in a read-only transaction all the same, or hides
//! another call from the guard.

/// Refused by their whole name, whatever the schema.
const NAMES: &[&str] = &[
    // Settings of the session: `set_config('transaction_read_only', …)` would lift the protection.
    "set_config",
    // Other sessions.
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_notify",
    // The server itself.
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_switch_wal",
    "pg_promote",
    "pg_stat_file",
    "pg_export_snapshot",
    "loread",
    "lowrite",
    // MySQL and MariaDB.
    "get_lock",
    "load_file",
    // SQLite and its shell.
    "load_extension",
    "readfile",
    "writefile",
    "fts3_tokenizer",
];

/// Refused by how their name begins.
const PREFIXES: &[&str] = &[
    // Large objects and server files.
    "lo_",
    "pg_read_",
    "pg_ls_",
    "pg_file_",
    // Connections to elsewhere, where no read-only transaction holds.
    "dblink",
    // Locks that outlive the statement.
    "pg_advisory",
    "pg_try_advisory",
    // Replication and statistics.
    "pg_create_",
    "pg_drop_",
    "pg_logical_",
    "pg_replication_",
    "pg_stat_reset",
    "pg_wal_replay_",
    // SQL from a text, which the guard cannot read.
    "query_to_xml",
];

/// Whether a call of `name` is refused; names are compared in any case.
pub(super) fn is_refused(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
