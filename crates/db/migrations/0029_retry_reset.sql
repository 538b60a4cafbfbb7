-- forgotten: attempts up to this number do not count as retries any more, since a later one ran long enough; retried
-- counts from there.
ALTER TABLE jobs ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
