//! What is in `deploy/` works with the real programs.

mod compose;
mod grafana;
mod helm;
mod logs;
mod nats_roles;
mod nats_single;
mod prometheus;
mod validate_health;
