-- The audit log is sealed into files (crate `audit`), and cut by retention alone.

-- Up to where it is sealed. size: entries that are sealed; through: the number of the last of them; leaf: its hash.
-- segment: the number of the first entry in the segment file that is appended to; length: bytes of that file;
-- checkpoints: bytes of the file of checkpoints; checkpoint: the newest. What the files hold beyond is not sealed yet.
CREATE TABLE audit_sealed (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    size         INTEGER NOT NULL,
    through      INTEGER NOT NULL,
    leaf         BLOB NOT NULL,
    segment      INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    checkpoints  INTEGER NOT NULL,
    checkpoint   TEXT NOT NULL
) STRICT;

-- through: entries up to this number may be removed. entry: the number of the entry that says so.
CREATE TABLE audit_cut (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    through  INTEGER NOT NULL,
    entry    INTEGER NOT NULL CHECK (entry > through)
) STRICT;

DROP TRIGGER audit_is_never_cut;
CREATE TRIGGER audit_is_cut_by_retention_alone BEFORE DELETE ON audit
WHEN OLD.id > COALESCE((SELECT through FROM audit_cut), 0)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
