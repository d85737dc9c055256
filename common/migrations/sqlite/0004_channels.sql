-- What named channels need of the outbox.
-- fallback_for: the route that this notification stands in for, which has given up the same notice.
-- digest_id: the digest that told it, if it was not told by itself.
-- first_attempt_at: since when it has been tried. replayed_at, replayed_by: who has put it back after it was given up.
ALTER TABLE sqlsentinel_notifications ADD COLUMN fallback_for TEXT;
ALTER TABLE sqlsentinel_notifications ADD COLUMN digest_id TEXT;
ALTER TABLE sqlsentinel_notifications ADD COLUMN first_attempt_at BIGINT;
ALTER TABLE sqlsentinel_notifications ADD COLUMN replayed_at BIGINT;
ALTER TABLE sqlsentinel_notifications ADD COLUMN replayed_by TEXT;
CREATE INDEX sqlsentinel_notifications_route ON sqlsentinel_notifications (route_key, next_attempt_at) WHERE status IN ('PENDING', 'SENDING');
CREATE INDEX sqlsentinel_notifications_dead ON sqlsentinel_notifications (finished_at) WHERE status = 'DEAD';

-- How much of a channel's rate is used up: one row a channel that has one, its window on this database's clock.
CREATE TABLE sqlsentinel_channel_rates (
    channel TEXT PRIMARY KEY,
    window_began_at BIGINT NOT NULL,
    messages BIGINT NOT NULL
);
