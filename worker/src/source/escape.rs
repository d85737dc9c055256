//! Names as they may stand in a statement's comment, and passwords as they stand in a URL. Pure.

use url::Url;

/// An alert's name as it may stand in a comment.
pub(super) fn as_comment(alert_name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    alert_name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// The password in `url`, as it was before it was percent-encoded.
pub(super) fn decoded_password(url: &Url) -> Option<String> {
    // The query-string decoder is the URL crate's only public one, and reads `+` as a blank.
    let encoded = url.password()?.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let mut probe = url.clone();
    probe.set_query(Some(&format!("p={encoded}")));
    probe.query_pairs().next().map(|(_, password)| password.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alerts_name_cannot_leave_its_comment() {
        assert_eq!(as_comment("revenue: daily"), "revenue:_daily");
        assert_eq!(as_comment("*/; DROP TABLE é"), "____DROP_TABLE__");
    }
}
