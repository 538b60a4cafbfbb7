-- Keys that clients name their submits by, so that the same submit sent twice is one job. digest: SHA-256 of what was
-- asked for.
CREATE TABLE idempotency_keys (
    project  TEXT NOT NULL REFERENCES projects (id),
    key      TEXT NOT NULL,
    digest   BLOB NOT NULL,
    job      TEXT NOT NULL REFERENCES jobs (id),
    created  INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created);
