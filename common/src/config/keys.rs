//! The keys of each section, and the channels of the full schema that are not built yet and are refused by name, so that
//! nobody believes in a setting that does nothing.

/// The file.
pub(super) const TOP: &[&str] = &["include", "database", "databases", "channels", "timezone", "defaults", "alerts"];

/// `database`, and each of `databases`.
pub(super) const DATABASE: &[&str] = &["url", "url_file", "max_concurrency", "pool_size", "timeout"];

/// `defaults`: keys of an alert that hold where the alert does not have them.
pub(super) const DEFAULTS: &[&str] = &[
    "timezone",
    "timeout",
    "notify",
    "labels",
    "severity",
    "runbook",
    "misfire",
    "catchup_window",
    "overlap",
    "jitter",
    "for",
    "consecutive",
    "repeat_interval",
    "send_resolved",
    "on_error",
    "on_no_data",
];

/// `on_error`, where it is a mapping.
pub(super) const ON_ERROR: &[&str] = &["action", "after"];

/// One of `alerts`.
pub(super) const ALERT: &[&str] = &[
    "name",
    "description",
    "query",
    "database",
    "schedule",
    "timezone",
    "timeout",
    "enabled",
    "notify",
    "labels",
    "severity",
    "runbook",
    "instance_key",
    "query_env",
    "allow_unparsed",
    "misfire",
    "catchup_window",
    "overlap",
    "jitter",
    "for",
    "consecutive",
    "repeat_interval",
    "send_resolved",
    "on_error",
    "on_no_data",
];

/// One of `notify` that does not say which channel it is for.
pub(super) const ANY_CHANNEL: &[&str] = &[
    "channel",
    "recipients",
    "subject",
    "body",
    "webhook_url",
    "webhook_url_file",
    "username",
    "slack_channel",
    "url",
    "url_file",
    "method",
    "headers",
    "secret",
    "secret_file",
    "fallback",
    "max_concurrency",
    "rate",
];

/// One of `notify` whose channel is `email`.
pub(super) const EMAIL: &[&str] = &["channel", "recipients", "subject", "body", "fallback"];

/// One of `notify` whose channel is `slack`.
pub(super) const SLACK: &[&str] =
    &["channel", "webhook_url", "webhook_url_file", "username", "slack_channel", "body", "fallback"];

/// One of `notify` whose channel is `webhook`.
pub(super) const WEBHOOK: &[&str] =
    &["channel", "url", "url_file", "method", "headers", "secret", "secret_file", "body", "fallback"];

/// A header's value that is in a file.
pub(super) const HEADER: &[&str] = &["file"];

/// What one of `channels` may have beside the keys of an entry of `notify`: a limit is one of the channel, whoever uses it.
pub(super) const LIMITS: &[&str] = &["max_concurrency", "rate"];

/// Channels that are not built yet.
pub(super) const LATER_CHANNELS: &[&str] = &["teams", "pagerduty", "opsgenie", "discord", "telegram"];

/// The one of `candidates` that a person who wrote `word` most probably meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    // The first measure knows typing errors from other words; the second, which counts them, prefers `url` to `url_file`.
    candidates
        .into_iter()
        .map(|candidate| (candidate.to_ascii_lowercase(), candidate))
        .filter(|(lower, _)| strsim::jaro_winkler(&word, lower) > 0.8)
        .map(|(lower, candidate)| (strsim::normalized_damerau_levenshtein(&word, &lower), candidate))
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
