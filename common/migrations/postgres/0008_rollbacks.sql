-- Each time this database was found to have gone back in time (restored from a copy, or failed over to a replica that
-- lacked commits): what was known to be committed, and what was found. What ran and was told between uncertain_from (the
-- cursor as it was found) and uncertain_until (when that was noticed) may run and be told again.
CREATE TABLE sqlsentinel_rollbacks (
    epoch BIGINT PRIMARY KEY,
    known_epoch BIGINT NOT NULL,
    known_seq BIGINT NOT NULL,
    found_epoch BIGINT NOT NULL,
    found_seq BIGINT NOT NULL,
    uncertain_from BIGINT NOT NULL,
    uncertain_until BIGINT NOT NULL
);
