//! Channels: what arrives at mail servers, Slack and webhooks, and what happens where nothing arrives.

mod email;
mod limits;
mod roads;
mod slack;
mod templates;
mod webhook;
