-- The sandbox of an attempt where it was made before the attempt, `UUID.1`; of an attempt without one it has the attempt's own
-- name. No sandbox is ever of two attempts.
ALTER TABLE attempts ADD COLUMN sandbox TEXT;
CREATE UNIQUE INDEX attempts_by_sandbox ON attempts (sandbox) WHERE sandbox IS NOT NULL;
