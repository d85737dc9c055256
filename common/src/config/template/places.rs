//! Texts with places in single braces: `{alert_name} is {status}`, as the Python system wrote them.
//!
//! Input: a subject's text. Output: [`Places`], which are filled in.

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The alert's name.
    AlertName,
    /// How the run ended.
    Status,
    /// The `actual_value` column.
    ActualValue,
    /// The `threshold` column.
    Threshold,
}

impl Field {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::AlertName, Self::Status, Self::ActualValue, Self::Threshold];

    /// The name between the braces.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AlertName => "alert_name",
            Self::Status => "status",
            Self::ActualValue => "actual_value",
            Self::Threshold => "threshold",
        }
    }
}

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Field),
}

/// A text whose braces cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacesError {
    /// `{` without `}`, or the other way round.
    #[error("a brace without its partner (write `{{{{` or `}}}}` for a brace)")]
    Unpaired,
    /// Something else between the braces.
    #[error(
        "`{{{0}}}` is nothing that can be filled in: use `{{alert_name}}`, `{{status}}`, `{{actual_value}}` or `{{threshold}}`"
    )]
    UnknownField(String),
}

impl Places {
    /// Reads `text`; `{{` and `}}` are braces.
    pub(super) fn parse(text: &str) -> Result<Self, PlacesError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let (name, after) = match brace {
                "{" => after.split_once('}').ok_or(PlacesError::Unpaired)?,
                _ => return Err(PlacesError::Unpaired),
            };
            let field = Field::ALL.into_iter().find(|field| field.as_str() == name.trim());
            let field = field.ok_or_else(|| PlacesError::UnknownField(name.to_owned()))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// The text with what `value` says in its places.
    pub(super) fn fill(&self, value: impl Fn(Field) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::Field(field) => value(*field),
        };
        self.0.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_doubled_braces_are_braces() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{alert_name}: {status} ({actual_value}/{threshold})", "alert_name: status (actual_value/threshold)"),
            ("{ status }!", "status!"),
            ("{{status}} {{{status}}}", "{status} {status}"),
            ("é{status}é", "éstatusé"),
        ] {
            let filled = Places::parse(text).map(|places| places.fill(|field| field.as_str().to_owned()));
            assert_eq!(filled.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_filled_in_is_not_read_again() {
        let filled = Places::parse("{alert_name}").map(|places| places.fill(|_| "{status}".to_owned()));
        assert_eq!(filled.as_deref(), Ok("{status}"));
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused() {
        for (text, error) in [
            ("{status", PlacesError::Unpaired),
            ("status}", PlacesError::Unpaired),
            ("{}", PlacesError::UnknownField(String::new())),
            ("{value}", PlacesError::UnknownField("value".to_owned())),
            ("{actual_value:.2f}", PlacesError::UnknownField("actual_value:.2f".to_owned())),
        ] {
            assert_eq!(Places::parse(text), Err(error), "{text}");
        }
    }
}
