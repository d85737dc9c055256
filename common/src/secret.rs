//! Values that must not be seen: [`Secret`] for what a process uses, [`redact_url`] for what people may read of a URL.
//!
//! Secrets come from [`crate::config`] and [`crate::settings`] and go to the client library that needs them, by
//! [`Secret::expose`]; nothing else reads them.

use std::fmt;

/// A resolved secret. It has no `Display` and no serde, and its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What stands for a part that is not shown.
const HIDDEN: &str = "***";

/// `url` for people: without user information, query values and fragment.
///
/// It also takes texts that are not well-formed URLs, such as one whose password has an unescaped `/` or `@`: where
/// it is not certain which part is a secret, everything after the scheme is hidden.
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return if url.eq_ignore_ascii_case("sqlite::memory:") { url.to_owned() } else { HIDDEN.to_owned() };
    };
    if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        return HIDDEN.to_owned();
    }
    let location = match rest.rfind('@') {
        Some(at) if rest[..at].contains(['/', '?', '#', '\\']) => return format!("{scheme}://{HIDDEN}"),
        Some(at) => &rest[at + 1..],
        None => rest,
    };
    let user = if location.len() < rest.len() { "***@" } else { "" };
    let location = location.split('#').next().unwrap_or_default();
    match location.split_once('?') {
        None => format!("{scheme}://{user}{location}"),
        Some((place, query)) => format!("{scheme}://{user}{place}?{}", redact_query(query)),
    }
}

fn redact_query(query: &str) -> String {
    let redact = |pair: &str| match pair.split_once('=') {
        Some((key, _)) => format!("{key}={HIDDEN}"),
        None => HIDDEN.to_owned(),
    };
    query.split('&').map(redact).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_in_its_debug_text() {
        let secret = Secret::new("canary");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(***) Some(Secret(***))");
        assert_eq!(secret.expose(), "canary");
    }

    #[test]
    fn a_url_keeps_what_helps_to_recognise_it() {
        for (url, shown) in [
            ("postgresql://app:canary@db.example:5432/shop", "postgresql://***@db.example:5432/shop"),
            ("postgresql://db/shop?sslmode=require&password=canary", "postgresql://db/shop?sslmode=***&password=***"),
            ("https://hooks.example/x?canary", "https://hooks.example/x?***"),
            ("https://hooks.example/x#canary", "https://hooks.example/x"),
            ("https://hooks.example/@canary/x", "https://***"),
            ("sqlite:////var/lib/s.db", "sqlite:////var/lib/s.db"),
            ("sqlite::memory:", "sqlite::memory:"),
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ] {
            assert_eq!(redact_url(url), shown, "{url}");
        }
    }

    #[test]
    fn a_malformed_url_hides_its_password_all_the_same() {
        for url in [
            "postgresql://app:canary/1@db/shop",
            "postgresql://app:12/canary@db/shop",
            "postgresql://app:ca?canary@db/shop",
            "postgresql://app:#canary@db/shop",
            "postgresql://app:can@canary@db/shop",
            "postgresql://db/shop?email=a@b&token=canary",
            "app:canary@db/shop",
            "canary",
            "canary ://x",
            "://canary",
        ] {
            assert!(!redact_url(url).contains("canary"), "{url} → {}", redact_url(url));
        }
    }
}
