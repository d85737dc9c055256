//! One entry of `notify` with `channel: email`, and the name of its route.

use super::channel::EmailConfig;
use super::interpolate::Setting;
use super::raw::Value;
use super::section::{Item, Reader, Section};
use super::template::Escape;
use super::text;

/// Reads the settings; none if something is wrong with them.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<EmailConfig> {
    let recipients = reader.required(section, "recipients", "list at least one address");
    let recipients = recipients.and_then(|item| read_recipients(reader, &item));
    let subject = text::subject(reader, section);
    let body = text::body(reader, section, Escape::Nothing);
    Some(EmailConfig { recipients: recipients?, subject: subject?, body: body? })
}

fn read_recipients(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Vec<Setting>> {
    let before = reader.problems.len();
    let items = reader.list(item);
    if items.is_empty() && matches!(item.node.value, Value::List(_)) {
        reader.problem(item.node.place, &item.path, "there is no recipient", "list at least one address");
    }
    let mut recipients = Vec::with_capacity(items.len());
    for item in &items {
        let Some(setting) = reader.setting(item) else { continue };
        if setting.as_literal().is_some_and(|text| !is_address(text)) {
            let help = "write `name@example.com`, `Name <name@example.com>` or `${VARIABLE}`";
            reader.problem(item.node.place, &item.path, "not a mail address", help);
        }
        recipients.push(setting);
    }
    (reader.problems.len() == before).then_some(recipients)
}

/// Whether `text` is something like an address. What the mail library refuses in spite of this is told when it is sent.
fn is_address(text: &str) -> bool {
    let text = text.trim();
    let bare = match text.strip_suffix('>') {
        Some(rest) => rest.rsplit_once('<').map_or("", |(_, address)| address),
        None => text,
    };
    let plain =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic() && !"<>,;()[]\\".contains(c));
    !text.chars().any(char::is_control)
        && bare.rsplit_once('@').is_some_and(|(local, domain)| plain(local) && !local.contains('@') && plain(domain))
}

/// What the name of the route is made of. Addresses are no secrets.
pub(super) fn public_part(email: &EmailConfig) -> Result<String, serde_json::Error> {
    let parts = |setting: &'_ Setting| -> [Vec<String>; 2] {
        [setting.literals().map(str::to_owned).collect(), setting.variables().map(str::to_owned).collect()]
    };
    let recipients: Vec<_> = email.recipients.iter().map(parts).collect();
    serde_json::to_string(&("email", recipients))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_what_is_none() {
        for good in ["a@b", " ops@example.com ", "Ops Team <ops@example.com>", "\"Doe, J\" <j.doe+x@mail.example.com>"]
        {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "ops",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b c",
            "a@b, c@d",
            "<a@b",
            "Ops <ops>",
            "a@b\r\nBcc: c@d",
            "ä@b",
            "Ops\n <a@b>",
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }
}
