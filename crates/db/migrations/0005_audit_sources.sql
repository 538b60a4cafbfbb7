-- Rooms that keep entries of their own in the same step as the change that they tell of, and hand them over after:
-- up to which number those of a source are in the log.
CREATE TABLE audit_sources (
    source  TEXT PRIMARY KEY NOT NULL,
    through INTEGER NOT NULL
) STRICT;
