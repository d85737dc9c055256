//! The notifier: from outcomes on the bus to messages sent.
//!
//! [`outcomes`] takes batches, [`record`] commits them with the [`judgement`] that [`transition`] makes of them by their
//! [`definitions`]; [`outbox`] claims what is to be told, [`deliver`] makes one attempt: [`render`] says what, [`channel`]
//! where, [`retry`] what follows, [`circuit`] whether it is worth it. [`sweep`] tells what silences have kept back. [`app`] wires the loops, [`metrics`] counts.
//!
//! A process that runs an alert once, without a cluster, uses the same functions: [`record::Recorder::record_manual`],
//! then [`outbox::deliver_due`].

pub mod app;
pub mod channel;
pub mod circuit;
pub mod definitions;
pub mod deliver;
pub mod judgement;
pub mod metrics;
pub mod outbox;
pub mod outcomes;
pub mod record;
pub mod render;
pub mod retry;
pub mod sweep;
pub mod transition;
