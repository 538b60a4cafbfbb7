-- Versions of engines that the operator has withdrawn. at: since when, Unix microseconds as all times here.
CREATE TABLE engine_withdrawals (
    version  TEXT PRIMARY KEY,
    reason   TEXT NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_waiting_by_version ON jobs (version) WHERE status = 'PENDING';

-- Jobs that come again. request: JSON, the job to submit; version: the engine version that it names. account, identity,
-- person: in whose name it submits. stopped: why the service does not go on with it. next_run: NULL where none comes.
-- client_key, client_digest: the key that its creation was named by, and SHA-256 of what was asked for.
CREATE TABLE schedules (
    id             TEXT PRIMARY KEY,
    project        TEXT NOT NULL REFERENCES projects (id),
    name           TEXT NOT NULL,
    cron           TEXT NOT NULL,
    zone           TEXT NOT NULL,
    request        TEXT NOT NULL,
    version        TEXT,
    catch_up       INTEGER NOT NULL CHECK (catch_up >= 0),
    overlap        TEXT NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel_running', 'allow')),
    starts         INTEGER,
    ends           INTEGER,
    enabled        INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    stopped        TEXT,
    account        TEXT NOT NULL REFERENCES accounts (id),
    identity       TEXT NOT NULL,
    person         INTEGER,
    refusals       INTEGER NOT NULL CHECK (refusals >= 0),
    created        INTEGER NOT NULL,
    changed        INTEGER NOT NULL,
    next_run       INTEGER,
    client_key     TEXT,
    client_digest  BLOB,
    UNIQUE (project, name),
    UNIQUE (project, client_key),
    CHECK (next_run IS NULL OR (enabled = 1 AND stopped IS NULL))
) STRICT;
CREATE INDEX schedules_by_next_run ON schedules (next_run, id) WHERE next_run IS NOT NULL;
CREATE INDEX schedules_by_version ON schedules (version, id) WHERE next_run IS NOT NULL;

-- What came of each time of a schedule. nominal: the time; the key makes each come once. until: the last of several
-- times that were missed.
CREATE TABLE schedule_runs (
    schedule  TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    nominal   INTEGER NOT NULL,
    until     INTEGER,
    at        INTEGER NOT NULL,
    outcome   TEXT NOT NULL CHECK (outcome IN ('submitted', 'skipped', 'missed', 'refused')),
    job       TEXT REFERENCES jobs (id),
    reason    TEXT,
    PRIMARY KEY (schedule, nominal),
    CHECK ((outcome = 'submitted') = (job IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- What the owners of schedules were told of an engine version, each once. occasion: which notice.
CREATE TABLE engine_notices (
    schedule  TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    version   TEXT NOT NULL,
    occasion  TEXT NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (schedule, version, occasion)
) STRICT, WITHOUT ROWID;
