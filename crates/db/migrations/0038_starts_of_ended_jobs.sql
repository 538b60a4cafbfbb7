-- A job that ended between two attempts, or in one that started nothing, has the start of the last one that started user code:
-- what has no start never ran.
UPDATE jobs SET started = (SELECT MAX(jobs.created, MAX(attempts.started)) FROM attempts WHERE attempts.job = jobs.id)
WHERE ended IS NOT NULL AND started IS NULL AND attempt > 0;
