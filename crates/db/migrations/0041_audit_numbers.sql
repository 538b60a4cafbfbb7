-- Entries of the audit log have numbers from 1 on. After the insert, since before it a number that is not given yet is not known.
CREATE TRIGGER audit_is_numbered_from_one AFTER INSERT ON audit
WHEN NEW.id < 1
BEGIN
    SELECT RAISE(ABORT, 'entries of the audit log have numbers from 1 on');
END;
