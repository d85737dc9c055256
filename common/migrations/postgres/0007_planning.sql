-- A fire that waits in the ledger, and why it is not queued yet: before not_before (NULL: at once), or while another fire
-- of its alert is queued (overlap 'queue_one'). What waits for room in its source's lane is queued by priority (0 is the
-- worst severity), then deadline.
ALTER TABLE sqlsentinel_fires ADD COLUMN not_before BIGINT;
ALTER TABLE sqlsentinel_fires ADD COLUMN priority INTEGER NOT NULL DEFAULT 2;
ALTER TABLE sqlsentinel_fires ADD COLUMN overlap TEXT NOT NULL DEFAULT 'skip';
