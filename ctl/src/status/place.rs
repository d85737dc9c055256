//! Where `status` looks: the state database, or a cluster over NATS. A flag says more than a variable.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, Id};
use sqlsentinel_common::settings::{NatsSettings, StateSettings};

/// The place.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Straight into it.
    StateDatabase(StateSettings),
    /// One of its coordinators.
    Cluster(NatsSettings),
}

#[derive(Debug, Args)]
struct PlaceArgs {
    #[command(flatten)]
    state: StateSettings,
    #[command(flatten)]
    nats: Option<NatsSettings>,
}

/// Whether a flag of `A` stands on the command line.
fn is_flagged<A: Args>(matches: &ArgMatches) -> bool {
    let command = A::augment_args(Command::new("group"));
    let on_command_line = |id: &Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    command.get_arguments().any(|argument| on_command_line(argument.get_id()))
}

impl FromArgMatches for Place {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let PlaceArgs { state, nats } = PlaceArgs::from_arg_matches(matches)?;
        match (is_flagged::<StateSettings>(matches), is_flagged::<NatsSettings>(matches), nats) {
            (true, true, _) => Err(clap::Error::raw(
                clap::error::ErrorKind::ArgumentConflict,
                "a state database and a NATS are both named: ask one of them\n",
            )),
            // Variables are set for many commands, and say where the cluster is; a flag is about this one.
            (true, false, _) | (false, _, None) => Ok(Self::StateDatabase(state)),
            (false, _, Some(nats)) => Ok(Self::Cluster(nats)),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Place {
    fn augment_args(command: Command) -> Command {
        PlaceArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        PlaceArgs::augment_args_for_update(command)
    }
}
