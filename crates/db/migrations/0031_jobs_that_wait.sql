-- Jobs that wait for room, in the order in which they come. What else decides whether one may start now is in the index too, so
-- that those that pause before a retry, or are larger than their project's quota, are stepped over without reading them.
CREATE INDEX jobs_that_wait ON jobs (project, id, not_before, cores, memory, storage) WHERE status = 'PENDING' AND after IS NULL;
