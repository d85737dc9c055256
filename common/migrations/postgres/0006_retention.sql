-- What the purge of old rows looks up: notifications by when they ended, and who refers to a version.
CREATE INDEX sqlsentinel_notifications_ended ON sqlsentinel_notifications (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX sqlsentinel_configs_by_hash ON sqlsentinel_configs (config_hash);
