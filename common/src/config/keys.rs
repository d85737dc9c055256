//! The keys of each section: those that work, and those of the full schema that are not built yet and are refused by
//! name, so that nobody believes in a setting that does nothing.

/// The keys of one kind of section.
pub(super) struct Keys {
    /// What works.
    pub(super) known: &'static [&'static str],
    /// What will work.
    pub(super) later: &'static [&'static str],
}

/// The file.
pub(super) const TOP: Keys = Keys {
    known: &["database", "databases", "timezone", "alerts"],
    later: &["channels", "defaults", "include", "silences", "labels", "state", "email", "slack", "webhook"],
};

/// `database`, and each of `databases`.
pub(super) const DATABASE: Keys = Keys {
    known: &["url"],
    later: &["url_file", "max_in_flight", "max_connections", "statement_timeout", "max_rows", "allow_unparsed"],
};

/// One of `alerts`.
pub(super) const ALERT: Keys = Keys {
    known: &["name", "description", "query", "database", "schedule", "timezone", "timeout", "enabled", "notify"],
    later: &[
        "allow_unparsed",
        "catchup_window",
        "channels",
        "consecutive",
        "for",
        "instance_key",
        "jitter",
        "labels",
        "misfire",
        "on_error",
        "on_no_data",
        "overlap",
        "query_env",
        "query_file",
        "repeat_interval",
        "runbook",
        "send_resolved",
        "severity",
        "silences",
    ],
};

/// One of `notify` whose channel is `webhook`.
pub(super) const WEBHOOK: Keys = Keys {
    known: &["channel", "url", "method", "headers"],
    later: &[
        "fallback",
        "name",
        "recipients",
        "secret",
        "secret_file",
        "send_resolved",
        "slack_channel",
        "subject",
        "template",
        "timeout",
        "url_file",
        "username",
        "webhook_url",
    ],
};

/// Channels that are not built yet.
pub(super) const LATER_CHANNELS: &[&str] = &["email", "slack", "teams", "pagerduty", "opsgenie", "discord", "telegram"];

/// The one of `candidates` that a person who wrote `word` most probably meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let similarity = |candidate: &str| strsim::jaro_winkler(&word, &candidate.to_ascii_lowercase());
    candidates
        .into_iter()
        .map(|candidate| (similarity(candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// "did you mean", or all there is to choose from.
pub(super) fn suggestion(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("use one of {}", list(candidates)),
    }
}

/// `a`, `b`, `c`.
pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The part of a key or a name that can be shown. What has other characters in it may be a value in the wrong place,
/// such as a URL with its password.
pub(super) fn shown(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.+/".contains(c);
    let end = word.char_indices().find(|&(index, c)| index >= 64 || !plain(c)).map_or(word.len(), |(index, _)| index);
    if end < word.len() { format!("{}…", &word[..end]) } else { word.to_owned() }
}
