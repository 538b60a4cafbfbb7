-- project: that of the job, so that a month of a project is read by an index. reason: why it ended, as in jobs; not known of
-- attempts that were followed by another one before this column was there.
ALTER TABLE attempts ADD COLUMN project TEXT REFERENCES projects (id);
ALTER TABLE attempts ADD COLUMN reason TEXT;
UPDATE attempts SET project = (SELECT jobs.project FROM jobs WHERE jobs.id = attempts.job);
UPDATE attempts SET reason = (
    SELECT jobs.reason FROM jobs WHERE jobs.id = attempts.job AND jobs.attempt = attempts.number
) WHERE ended IS NOT NULL;

DROP INDEX attempts_by_start;
DROP INDEX attempts_by_end;
DROP INDEX attempts_that_run;
CREATE INDEX attempts_of_project_by_start ON attempts (project, started) WHERE started IS NOT NULL;
CREATE INDEX attempts_of_project_that_run ON attempts (project, started) WHERE started IS NOT NULL AND ended IS NULL;
CREATE INDEX attempts_over_months ON attempts (project, ended)
WHERE started IS NOT NULL AND ended IS NOT NULL
    AND strftime('%Y-%m', started / 1000000, 'unixepoch') <> strftime('%Y-%m', ended / 1000000, 'unixepoch');
CREATE INDEX jobs_that_failed ON jobs (project, ended) WHERE status = 'FAILED';
