-- Those that wait for the end of another job, to count them.
CREATE INDEX jobs_held ON jobs (project) WHERE after IS NOT NULL;
