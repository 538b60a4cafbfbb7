-- A job that ended while it waited for another one waits no more.
DROP INDEX jobs_held;
CREATE INDEX jobs_held ON jobs (project) WHERE after IS NOT NULL AND status = 'PENDING';
