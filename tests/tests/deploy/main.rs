//! What is in `deploy/` works with the real programs.

mod grafana;
mod helm;
mod nats_roles;
mod nats_single;
mod prometheus;
