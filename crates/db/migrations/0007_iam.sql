-- Policies, resource groups and permissions groups of accounts. A change ends a row and begins another, so that a decision
-- of the past can be explained by what was in force then. document: JSON as the client wrote it. Times are Unix microseconds.
CREATE TABLE iam_documents (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT NOT NULL, -- UUIDv7
    account   TEXT NOT NULL REFERENCES accounts (id),
    kind      TEXT NOT NULL CHECK (kind IN ('policy', 'resourceGroup', 'permissionsGroup')),
    name      TEXT NOT NULL,
    document  TEXT NOT NULL,
    created   INTEGER NOT NULL, -- of the first row of this id
    since     INTEGER NOT NULL,
    until     INTEGER -- NULL: in force
) STRICT;
CREATE UNIQUE INDEX iam_documents_in_force ON iam_documents (account, kind, id) WHERE until IS NULL;
CREATE UNIQUE INDEX iam_documents_by_name ON iam_documents (account, kind, name) WHERE until IS NULL;
CREATE INDEX iam_documents_by_time ON iam_documents (account, since);

-- Tags of resources, kept in the same way.
CREATE TABLE iam_tags (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    account  TEXT NOT NULL REFERENCES accounts (id),
    urn      TEXT NOT NULL,
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    since    INTEGER NOT NULL,
    until    INTEGER
) STRICT;
CREATE UNIQUE INDEX iam_tags_in_force ON iam_tags (account, urn, key) WHERE until IS NULL;
CREATE INDEX iam_tags_by_time ON iam_tags (account, since);

-- Rises with each change of an account's rows above, so that what is in memory is read again when it has to be.
CREATE TABLE iam_changes (
    account  TEXT PRIMARY KEY REFERENCES accounts (id),
    change   INTEGER NOT NULL
) STRICT;
