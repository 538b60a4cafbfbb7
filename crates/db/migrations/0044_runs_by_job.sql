-- Which time of which schedule a job is of.
CREATE INDEX schedule_runs_by_job ON schedule_runs (job) WHERE job IS NOT NULL;
