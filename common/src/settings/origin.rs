//! Where a refused value came from: clap's errors name the flag alone, although the value may be a variable's.
//!
//! Input: clap's error, and the command it came from. Output: the same error, each argument in it named by its flag and
//! by its variable.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

/// `error`, with the variables of the arguments that it names.
pub(super) fn with_variables(mut error: Error, command: &mut Command) -> Error {
    if error.kind() == ErrorKind::UnknownArgument {
        // What it names is no argument of ours.
        return error;
    }
    // The arguments of a command that was not asked for have no text before this.
    command.build();
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let named = match error.get(kind) {
            Some(ContextValue::String(argument)) => ContextValue::String(named(argument, command)),
            Some(ContextValue::Strings(arguments)) => {
                ContextValue::Strings(arguments.iter().map(|argument| named(argument, command)).collect())
            }
            _ => continue,
        };
        error.insert(kind, named);
    }
    error
}

/// `argument`, as clap shows it, and the variable that can be given in its place.
fn named(argument: &str, command: &Command) -> String {
    match variable(argument, command) {
        Some(variable) => format!("{argument} ({variable})"),
        None => argument.to_owned(),
    }
}

fn variable(argument: &str, command: &Command) -> Option<String> {
    let of_this = command.get_arguments().find(|arg| arg.to_string() == argument).and_then(|arg| arg.get_env());
    let of_this = of_this.map(|variable| variable.to_string_lossy().into_owned());
    of_this.or_else(|| command.get_subcommands().find_map(|command| variable(argument, command)))
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, value_parser};

    use super::*;

    fn message(arguments: &[&str]) -> String {
        let run = Command::new("run").arg(
            Arg::new("seats").long("max-seats").env("UNSET_MAX_SEATS").value_name("N").value_parser(value_parser!(u8)),
        );
        let mut command = Command::new("test")
            .arg(Arg::new("log_format").long("log-format").env("UNSET_LOG_FORMAT").value_parser(["json", "text"]))
            .arg(Arg::new("plain").long("plain").env("UNSET_PLAIN").action(ArgAction::SetTrue).conflicts_with("file"))
            .arg(Arg::new("file").env("UNSET_FILE"))
            .arg(Arg::new("count").long("count").value_parser(value_parser!(u8)))
            .subcommand(run);
        let error = command.try_get_matches_from_mut(arguments).unwrap_err();
        with_variables(error, &mut command).to_string()
    }

    #[test]
    fn a_refused_value_is_told_with_flag_and_variable() {
        for (arguments, names) in [
            (&["test", "--log-format", "xml"][..], &["--log-format", "(UNSET_LOG_FORMAT)"][..]),
            (&["test", "--log-format"], &["--log-format", "(UNSET_LOG_FORMAT)"]),
            (&["test", "run", "--max-seats", "many"], &["--max-seats <N> (UNSET_MAX_SEATS)"]),
            (&["test", "--plain", "x"], &["--plain (UNSET_PLAIN)", "(UNSET_FILE)"]),
        ] {
            let message = message(arguments);
            for name in names {
                assert!(message.contains(name), "{name} is missing in: {message}");
            }
        }
    }

    #[test]
    fn what_has_no_variable_is_told_as_it_is() {
        let (refused, unknown) = (message(&["test", "--count", "x"]), message(&["test", "run", "--plain"]));
        assert!(refused.contains("'--count <count>'"), "{refused}");
        assert!(unknown.contains("unexpected argument '--plain'") && !unknown.contains("UNSET_PLAIN"), "{unknown}");
    }
}
