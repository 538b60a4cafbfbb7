-- Users of an account and their groups. Times are Unix microseconds.

-- ADMIN, DEFAULT and UNPRIVILEGED are there in each account from its first moment on.
CREATE TABLE people_groups (
    account      TEXT NOT NULL REFERENCES accounts (id),
    name         TEXT NOT NULL,
    description  TEXT,
    role         TEXT NOT NULL CHECK (role IN ('ADMIN', 'REGULAR', 'UNPRIVILEGED', 'NONE')),
    built_in     INTEGER NOT NULL CHECK (built_in IN (0, 1)), -- 1: made with the account
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT;

CREATE TRIGGER accounts_have_groups AFTER INSERT ON accounts
BEGIN
    INSERT INTO people_groups (account, name, role, built_in, created, updated) VALUES
        (NEW.id, 'ADMIN', 'ADMIN', 1, NEW.created, NEW.created),
        (NEW.id, 'DEFAULT', 'REGULAR', 1, NEW.created, NEW.created),
        (NEW.id, 'UNPRIVILEGED', 'UNPRIVILEGED', 1, NEW.created, NEW.created);
END;
INSERT INTO people_groups (account, name, role, built_in, created, updated)
    SELECT id, 'ADMIN', 'ADMIN', 1, created, created FROM accounts
    UNION ALL SELECT id, 'DEFAULT', 'REGULAR', 1, created, created FROM accounts
    UNION ALL SELECT id, 'UNPRIVILEGED', 'UNPRIVILEGED', 1, created, created FROM accounts;

-- password: an Argon2id hash (PHC string); NULL until one is set. change_password: somebody else chose it.
CREATE TABLE people (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    account           TEXT NOT NULL REFERENCES accounts (id),
    login             TEXT NOT NULL,
    email             TEXT NOT NULL,
    description       TEXT NOT NULL,
    group_name        TEXT NOT NULL,
    password          TEXT,
    enabled           INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    change_password   INTEGER NOT NULL CHECK (change_password IN (0, 1)),
    created           INTEGER NOT NULL,
    updated           INTEGER NOT NULL,
    password_updated  INTEGER NOT NULL,
    UNIQUE (account, login),
    FOREIGN KEY (account, group_name) REFERENCES people_groups (account, name)
) STRICT;
CREATE INDEX people_of_group ON people (account, group_name);

-- hash: SHA-256 of a one-time token by which a person sets a password; the token itself is nowhere.
CREATE TABLE people_setups (
    hash     BLOB PRIMARY KEY,
    person   INTEGER NOT NULL UNIQUE REFERENCES people (id) ON DELETE CASCADE,
    expires  INTEGER NOT NULL
) STRICT;

-- The user by whom the account granted a credential; NULL: the account itself. No foreign key: the credential stays, ended,
-- when the user is gone, and no number is given twice.
ALTER TABLE credentials ADD COLUMN person INTEGER;
CREATE INDEX credentials_of_person ON credentials (person) WHERE person IS NOT NULL;
