-- Contacts of projects, changes of them, and the mailboxes of accounts. Times are Unix microseconds.

-- Who has which part of a project: the owner all of them from its first moment on.
CREATE TABLE project_contacts (
    project  TEXT PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    admin    TEXT NOT NULL REFERENCES accounts (id),
    tech     TEXT NOT NULL REFERENCES accounts (id),
    billing  TEXT NOT NULL REFERENCES accounts (id)
) STRICT;
CREATE INDEX project_contacts_admin ON project_contacts (admin);
CREATE INDEX project_contacts_tech ON project_contacts (tech);
CREATE INDEX project_contacts_billing ON project_contacts (billing);

CREATE TRIGGER projects_have_contacts AFTER INSERT ON projects
BEGIN
    INSERT INTO project_contacts (project, admin, tech, billing) VALUES (NEW.id, NEW.account, NEW.account, NEW.account);
END;
INSERT INTO project_contacts (project, admin, tech, billing) SELECT id, account, account, account FROM projects;

-- kinds: names, a space between them. from_token, to_token: SHA-256 of the token by which that side agrees or refuses;
-- NULL once that side has agreed, and when the change has ended.
CREATE TABLE contact_changes (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    project       TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    asking        TEXT NOT NULL REFERENCES accounts (id),
    from_account  TEXT NOT NULL REFERENCES accounts (id),
    to_account    TEXT NOT NULL REFERENCES accounts (id),
    kinds         TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('validatingByCustomers', 'done', 'refused', 'expired', 'aborted')),
    from_token    BLOB,
    to_token      BLOB,
    requested     INTEGER NOT NULL,
    expires       INTEGER NOT NULL,
    ended         INTEGER
) STRICT;
CREATE INDEX contact_changes_of_project ON contact_changes (project, state);
CREATE INDEX contact_changes_from ON contact_changes (from_account);
CREATE INDEX contact_changes_to ON contact_changes (to_account);
CREATE INDEX contact_changes_asking ON contact_changes (asking);

-- What an account is told. body: sealed by the key of the account, for it may hold a token.
CREATE TABLE notifications (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    account  TEXT NOT NULL REFERENCES accounts (id),
    subject  TEXT NOT NULL,
    body     BLOB NOT NULL,
    created  INTEGER NOT NULL
) STRICT;
CREATE INDEX notifications_of_account ON notifications (account, id);
