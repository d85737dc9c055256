//! A webhook's signature: HMAC-SHA256 over the time and the body, so that a receiver knows who wrote and when. Pure.

use ring::hmac;
use sqlsentinel_common::alert::hex;
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::timestamp::Timestamp;

/// Seconds since the Unix epoch: what `X-SQLSentinel-Timestamp` says.
pub(super) fn timestamp(now: Timestamp) -> String {
    now.as_micros().div_euclid(1_000_000).to_string()
}

/// What `X-SQLSentinel-Signature` says: `sha256=` and the hexadecimal HMAC of `<timestamp>.<body>`. A request without
/// a body has an empty one.
pub(super) fn signature(secret: &Secret, timestamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    format!("sha256={}", hex(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_other_programs_compute() {
        // printf '%s' '1767225660.{"a":1}' | openssl dgst -sha256 -hmac 'it is a secret'
        let expected = "sha256=1bf4a2f7dbb046f444cba8185413c3d9f636da0e0b9183a50ac633104a7821c7";
        let now = timestamp(Timestamp::from_micros(1_767_225_660_999_999));
        assert_eq!(now, "1767225660");
        assert_eq!(signature(&Secret::new("it is a secret"), &now, r#"{"a":1}"#), expected);
        assert_ne!(signature(&Secret::new("it is another"), &now, r#"{"a":1}"#), expected);
        assert_ne!(signature(&Secret::new("it is a secret"), "1767225661", r#"{"a":1}"#), expected);
    }
}
