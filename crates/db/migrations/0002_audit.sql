-- Who did what, on what, from where, what was decided and what came of it. Append-only. `at`: Unix nanoseconds.
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    account     TEXT,
    identity    TEXT NOT NULL,
    source_ip   TEXT,
    action      TEXT NOT NULL,
    resource    TEXT NOT NULL,
    decision    TEXT NOT NULL CHECK (decision IN ('allowed', 'refused', 'none')),
    result      TEXT NOT NULL,
    request_id  TEXT,
    detail      TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of_account ON audit (account, id);
CREATE INDEX audit_of_request ON audit (request_id) WHERE request_id IS NOT NULL;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_is_never_cut BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
