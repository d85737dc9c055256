//! What a mail server's answers mean for a notification. Pure.
//!
//! Input: how far the conversation had come, the answer's code, the replies to the recipients. Output: [`Sent`], or
//! that the mail should go to those who may get it.

use super::super::SEND_TIMEOUT;
use crate::retry::Sent;

/// Up to this attempt, a recipient who is refused for now holds the mail up for all, since nobody has got it yet. Later
/// ones go to whoever may get it: a full mailbox must not keep the news from everybody else.
const PATIENT_ATTEMPTS: u32 = 4;

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Looking the server up, connecting, greeting, encrypting.
    Connecting,
    /// Saying who we are.
    LoggingIn,
    /// Saying from whom and to whom.
    Addressing,
    /// The text may have left: from here on, silence says nothing.
    Sending,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "on connecting",
            Self::LoggingIn => "on logging in",
            Self::Addressing => "on being told sender and recipients",
            Self::Sending => "on getting the text",
        }
    }
}

/// What a refusal means. `said` is what the server has said, and holds no secret.
pub(super) fn refused(stage: Stage, code: u16, said: &str) -> Sent {
    let error = format!("the mail server answered {code} {}: {said}", stage.as_str());
    // Whatever is wrong with the connection or the login, somebody can mend.
    if code >= 500 && stage > Stage::LoggingIn && !is_about_the_login(code) {
        Sent::Permanent(error)
    } else {
        Sent::not_delivered(error)
    }
}

/// Answers that ask for a login, or for another one, whenever they come (RFC 4954).
fn is_about_the_login(code: u16) -> bool {
    matches!(code, 530 | 534 | 535 | 538)
}

/// What a conversation that broke means.
pub(super) fn broken(stage: Stage, said: &str) -> Sent {
    match stage {
        Stage::Sending => Sent::Unknown(format!("the connection to the mail server broke {}: {said}", stage.as_str())),
        Stage::Connecting => Sent::not_delivered(format!("no connection to the mail server: {said}")),
        _ => Sent::not_delivered(format!("the connection to the mail server broke {}: {said}", stage.as_str())),
    }
}

/// What it means that the time for an attempt was over.
pub(super) fn late(stage: Stage) -> Sent {
    let error = format!("no answer from the mail server within {} s {}", SEND_TIMEOUT.as_secs(), stage.as_str());
    if stage == Stage::Sending { Sent::Unknown(error) } else { Sent::not_delivered(error) }
}

/// A recipient whom the server does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) recipient: String,
    pub(super) code: u16,
    pub(super) said: String,
}

/// Whether the mail goes out, when `refusals` of `recipients` were refused; otherwise what that means.
pub(super) fn goes_out(recipients: usize, refusals: &[Refusal], attempt: u32) -> Result<(), Sent> {
    let for_now = refusals.iter().find(|refusal| refusal.code < 500 || is_about_the_login(refusal.code));
    let nobody = refusals.len() >= recipients;
    let decisive = match (for_now, nobody) {
        (Some(refusal), true) => Some(refusal),
        (Some(refusal), false) if attempt <= PATIENT_ATTEMPTS => Some(refusal),
        (None, true) => refusals.first(),
        _ => None,
    };
    match decisive {
        Some(Refusal { recipient, code, said }) => {
            Err(refused(Stage::Addressing, *code, &format!("{said} ({recipient})")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_final_where_it_is_about_the_mail() {
        use Stage::{Addressing, Connecting, LoggingIn, Sending};
        for (stage, code, is_final) in [
            (Connecting, 421, false),
            (Connecting, 554, false),
            (LoggingIn, 454, false),
            (LoggingIn, 535, false),
            (Addressing, 450, false),
            (Addressing, 530, false),
            (Addressing, 550, true),
            (Addressing, 553, true),
            (Sending, 451, false),
            (Sending, 552, true),
            (Sending, 554, true),
        ] {
            let sent = refused(stage, code, "no");
            assert_eq!(matches!(sent, Sent::Permanent(_)), is_final, "{stage:?} {code}");
            assert!(!matches!(sent, Sent::Unknown(_) | Sent::Delivered), "a refusal is an answer: {sent:?}");
        }
    }

    #[test]
    fn only_what_was_on_its_way_may_have_arrived() {
        for stage in [Stage::Connecting, Stage::LoggingIn, Stage::Addressing] {
            assert!(matches!(broken(stage, "reset"), Sent::NotDelivered { .. }), "{stage:?}");
            assert!(matches!(late(stage), Sent::NotDelivered { .. }), "{stage:?}");
        }
        assert!(matches!(broken(Stage::Sending, "reset"), Sent::Unknown(_)));
        assert!(matches!(late(Stage::Sending), Sent::Unknown(_)));
    }

    #[test]
    fn one_bad_address_costs_the_others_nothing() {
        let refusal = |code| Refusal { recipient: "x@y".to_owned(), code, said: "no".to_owned() };
        let (gone, full) = (refusal(550), refusal(452));
        for (recipients, refusals, attempt, expected) in [
            (2, vec![], 1, "goes"),
            (2, vec![gone.clone()], 1, "goes"),
            (2, vec![gone.clone(), gone.clone()], 1, "dead"),
            (1, vec![full.clone()], 9, "later"),
            (2, vec![full.clone(), gone.clone()], 9, "later"),
            (2, vec![full.clone()], PATIENT_ATTEMPTS, "later"),
            (3, vec![gone.clone(), full.clone()], PATIENT_ATTEMPTS, "later"),
            (2, vec![full.clone()], PATIENT_ATTEMPTS + 1, "goes"),
        ] {
            let found = match goes_out(recipients, &refusals, attempt) {
                Ok(()) => "goes",
                Err(Sent::Permanent(_)) => "dead",
                Err(Sent::NotDelivered { .. }) => "later",
                Err(_) => "?",
            };
            assert_eq!(found, expected, "{recipients} {refusals:?} {attempt}");
        }
    }
}
