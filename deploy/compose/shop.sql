-- A shop to watch, for docker-compose.dev.yaml and docker-compose.test.yaml, and a role that reads it and does nothing else:
-- docs/guides/database-roles.md says why. Its password is no secret.
CREATE TABLE orders (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payment TEXT NOT NULL);
INSERT INTO orders (payment) SELECT CASE WHEN id % 80 = 0 THEN 'open' ELSE 'paid' END FROM generate_series(1, 1000) AS id;

CREATE ROLE reader LOGIN PASSWORD 'reader';
ALTER ROLE reader SET default_transaction_read_only = on;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC;
