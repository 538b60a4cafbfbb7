-- storage (MiB): of the whole job, what its volumes may hold. since: when it came to its status. not_before: no attempt
-- is made before this time; retried: how often it was tried again after an attempt that may have started user code.
ALTER TABLE jobs ADD COLUMN storage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN retried INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET since = coalesce(ended, started, created),
    storage = max(0, 9216 * cores - 1024 * (1 + coalesce(json_extract(spec, '$.sizing.executors'), 1)));
CREATE INDEX jobs_that_pause ON jobs (not_before) WHERE status = 'PENDING';

-- What a project may take at once; NULL has no bound. A project without a row has none. memory, storage: MiB.
CREATE TABLE project_quotas (
    project  TEXT PRIMARY KEY REFERENCES projects (id),
    jobs     INTEGER CHECK (jobs >= 0),
    cores    INTEGER CHECK (cores >= 0),
    memory   INTEGER CHECK (memory >= 0),
    storage  INTEGER CHECK (storage >= 0),
    changed  INTEGER NOT NULL
) STRICT;
-- after: the job whose end this one waits for (its spec says how that one has to end); NULL once it waits for room only.
ALTER TABLE jobs ADD COLUMN after TEXT REFERENCES jobs (id);
CREATE INDEX jobs_after ON jobs (after) WHERE after IS NOT NULL;
