//! The functions that no alert may call: each does something in a read-only transaction all the same, or hides
//! another call from the guard.

use sqlsentinel_common::config::DatabaseKind;

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
    "pg_start_backup",
    "pg_stop_backup",
    "pg_stat_statements_reset",
    "pg_truncate_visibility_map",
    "gin_clean_pending_list",
    "pg_export_snapshot",
    "loread",
    "lowrite",
    // MySQL and MariaDB: locks that outlive the statement, and server files.
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
    "pg_copy_",
    "pg_drop_",
    "pg_logical_",
    "pg_replication_",
    "pg_stat_reset",
    "pg_wal_replay_",
    // The server's files and logs, and its indexes' and tables' pages, which no transaction rolls back.
    "pg_backup_",
    "pg_log_",
    "pg_import_",
    "brin_summarize_",
    "brin_desummarize_",
    "heap_force_",
    // SQL from a text, which the guard cannot read.
    "query_to_xml",
    "ts_stat",
    "crosstab",
    "connectby",
    "xpath_table",
];

/// Refused on MySQL and MariaDB alone, by their whole name.
const MYSQL_NAMES: &[&str] = &[
    "release_lock",
    "release_all_locks",
    "setval",
    // Endless work that reads nothing, and that MariaDB's time-out does not count as an error.
    "benchmark",
    // `PROCEDURE ANALYSE()`.
    "analyse",
    // Programs of the operating system, where somebody installed such functions.
    "sys_exec",
    "sys_eval",
    "sys_set",
    // Rules of plugins.
    "load_rewrite_rules",
    "flush_rewrite_rules",
];

/// Refused on MySQL and MariaDB alone, by how their name begins.
const MYSQL_PREFIXES: &[&str] = &[
    // SQL from a text, on other servers.
    "spider_",
    // Plugins that are told to act by functions: locks, keys, replication, the firewall, the audit log.
    "service_get_",
    "service_release_",
    "keyring_key_",
    "group_replication_",
    "asynchronous_connection_failover_",
    "set_firewall_",
    "firewall_group_",
    "audit_log_",
    "audit_api_",
    "version_tokens_",
    "gen_dictionary_",
];

/// Whether a call of `name` is refused; names are compared in any case.
pub(super) fn is_refused(name: &str, kind: DatabaseKind) -> bool {
    let name = name.to_ascii_lowercase();
    let is_in = |names: &[&str], prefixes: &[&str]| {
        names.contains(&name.as_str()) || prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    is_in(NAMES, PREFIXES) || (kind == DatabaseKind::Mysql && is_in(MYSQL_NAMES, MYSQL_PREFIXES))
}
