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
    known: &["database", "databases", "timezone", "defaults", "alerts"],
    later: &["channels", "include", "silences", "labels", "state", "email", "slack", "webhook"],
};

/// `database`, and each of `databases`.
pub(super) const DATABASE: Keys = Keys {
    known: &["url"],
    later: &["url_file", "max_in_flight", "max_connections", "statement_timeout", "max_rows", "allow_unparsed"],
};

/// `defaults`: keys of an alert that hold where the alert does not have them.
pub(super) const DEFAULTS: Keys = Keys {
    known: &["timezone", "timeout", "for", "consecutive", "repeat_interval", "send_resolved", "on_error", "on_no_data"],
    later: &[
        "catchup_window",
        "channels",
        "jitter",
        "labels",
        "misfire",
        "notify",
        "overlap",
        "runbook",
        "schedule",
        "severity",
    ],
};

/// `on_error`, where it is a mapping.
pub(super) const ON_ERROR: Keys = Keys { known: &["action", "after"], later: &[] };

/// One of `alerts`.
pub(super) const ALERT: Keys = Keys {
    known: &[
        "name",
        "description",
        "query",
        "database",
        "schedule",
        "timezone",
        "timeout",
        "enabled",
        "notify",
        "for",
        "consecutive",
        "repeat_interval",
        "send_resolved",
        "on_error",
        "on_no_data",
    ],
    later: &[
        "allow_unparsed",
        "catchup_window",
        "channels",
        "instance_key",
        "jitter",
        "labels",
        "misfire",
        "overlap",
        "query_env",
        "query_file",
        "runbook",
        "severity",
        "silences",
    ],
};

/// What every entry of `notify` may have one day.
const LATER_OF_ANY_CHANNEL: [&str; 5] = ["fallback", "name", "send_resolved", "template", "timeout"];

/// One of `notify` that does not say which channel it is for.
pub(super) const ANY_CHANNEL: Keys = Keys {
    known: &[
        "channel",
        "recipients",
        "subject",
        "webhook_url",
        "username",
        "slack_channel",
        "url",
        "method",
        "headers",
        "secret",
    ],
    later: &LATER_OF_ANY_CHANNEL,
};

/// One of `notify` whose channel is `email`.
pub(super) const EMAIL: Keys = Keys { known: &["channel", "recipients", "subject"], later: &LATER_OF_ANY_CHANNEL };

/// One of `notify` whose channel is `slack`.
pub(super) const SLACK: Keys = Keys {
    known: &["channel", "webhook_url", "username", "slack_channel"],
    later: &["fallback", "name", "send_resolved", "template", "timeout", "webhook_url_file"],
};

/// One of `notify` whose channel is `webhook`.
pub(super) const WEBHOOK: Keys = Keys {
    known: &["channel", "url", "method", "headers", "secret"],
    later: &["fallback", "name", "secret_file", "send_resolved", "template", "timeout", "url_file"],
};

/// Channels that are not built yet.
pub(super) const LATER_CHANNELS: &[&str] = &["teams", "pagerduty", "opsgenie", "discord", "telegram"];

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
