-- Jobs and their attempts. Times are Unix microseconds. `id` is a UUID version 7: its order is that of creation.
-- spec, reason: JSON. cores, memory (MiB): of the whole job, what it counts for the scheduler.
CREATE TABLE jobs (
    id            TEXT PRIMARY KEY,
    project       TEXT NOT NULL REFERENCES projects (id),
    name          TEXT NOT NULL,
    region        TEXT NOT NULL,
    version       TEXT NOT NULL,
    bucket        TEXT NOT NULL,
    cores         INTEGER NOT NULL,
    memory        INTEGER NOT NULL,
    spec          TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (
        status IN ('PENDING', 'SUBMITTED', 'RUNNING', 'CANCELLING', 'FAILED', 'TERMINATED', 'COMPLETED')
    ),
    created       INTEGER NOT NULL,
    started       INTEGER,
    ended         INTEGER,
    return_code   INTEGER,
    reason        TEXT,
    logs_address  TEXT,
    attempt       INTEGER NOT NULL,
    CHECK ((status IN ('FAILED', 'TERMINATED', 'COMPLETED')) = (ended IS NOT NULL)),
    CHECK (status = 'COMPLETED' OR return_code IS NULL OR return_code <> 0)
) STRICT;
CREATE INDEX jobs_of_project ON jobs (project, id);
CREATE INDEX jobs_of_project_by_status ON jobs (project, status, id);

-- log_key: the key of the attempt's log, wrapped by the key of the project.
-- closed: when its sandbox was destroyed and its credentials with it; until then it takes room.
-- spool_removed: when its log segments on this machine were removed.
CREATE TABLE attempts (
    job            TEXT NOT NULL REFERENCES jobs (id),
    number         INTEGER NOT NULL CHECK (number >= 1),
    log_key        BLOB NOT NULL,
    created        INTEGER NOT NULL,
    started        INTEGER,
    ended          INTEGER,
    closed         INTEGER,
    spool_removed  INTEGER,
    PRIMARY KEY (job, number)
) STRICT;
CREATE INDEX attempts_that_stand ON attempts (job, number) WHERE closed IS NULL;
CREATE INDEX attempts_with_spool ON attempts (closed) WHERE closed IS NOT NULL AND spool_removed IS NULL;
