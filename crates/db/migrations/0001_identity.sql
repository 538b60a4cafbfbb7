-- Accounts, projects and their credentials. Times are Unix microseconds.
CREATE TABLE accounts (
    id       TEXT PRIMARY KEY,
    email    TEXT NOT NULL,
    name     TEXT NOT NULL,
    created  INTEGER NOT NULL
) STRICT;

CREATE TABLE projects (
    id          TEXT PRIMARY KEY,
    account     TEXT NOT NULL REFERENCES accounts (id),
    name        TEXT NOT NULL,
    authorized  INTEGER NOT NULL,
    created     INTEGER NOT NULL
) STRICT;
CREATE INDEX projects_of_account ON projects (account, created);

-- secret: sealed by the key of the account.
CREATE TABLE applications (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    account      TEXT NOT NULL REFERENCES accounts (id),
    key          TEXT NOT NULL UNIQUE,
    secret       BLOB NOT NULL,
    name         TEXT NOT NULL,
    description  TEXT NOT NULL,
    created      INTEGER NOT NULL
) STRICT;
CREATE INDEX applications_of_account ON applications (account);

-- key_hash: SHA-256 of the consumer key, which itself is nowhere. token_hash: SHA-256 of the one-time token
-- by which a person validates a pending credential; gone once used.
CREATE TABLE credentials (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    application  INTEGER NOT NULL REFERENCES applications (id),
    account      TEXT REFERENCES accounts (id), -- who granted it; NULL while nobody has
    key_hash     BLOB NOT NULL UNIQUE,
    token_hash   BLOB UNIQUE,
    status       TEXT NOT NULL CHECK (status IN ('pendingValidation', 'validated', 'refused', 'expired')),
    rules        TEXT NOT NULL,
    allowed_ips  TEXT,
    redirection  TEXT,
    created      INTEGER NOT NULL,
    expiration   INTEGER,
    last_use     INTEGER
) STRICT;
CREATE INDEX credentials_of_application ON credentials (application);
CREATE INDEX credentials_of_account ON credentials (account);

-- Users of a project: holders of S3 access keys.
CREATE TABLE project_users (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    project      TEXT NOT NULL REFERENCES projects (id),
    username     TEXT NOT NULL UNIQUE,
    description  TEXT NOT NULL,
    created      INTEGER NOT NULL
) STRICT;
CREATE INDEX project_users_of_project ON project_users (project);

-- secret: sealed by the key of the project. A key of a sandbox (scope job or platform) dies with it.
CREATE TABLE s3_keys (
    access   TEXT PRIMARY KEY,
    project  TEXT NOT NULL REFERENCES projects (id),
    user_id  INTEGER REFERENCES project_users (id) ON DELETE CASCADE,
    scope    TEXT NOT NULL CHECK (scope IN ('project', 'job', 'platform')),
    sandbox  TEXT,
    secret   BLOB NOT NULL,
    created  INTEGER NOT NULL,
    CHECK ((scope = 'project') = (sandbox IS NULL)),
    UNIQUE (sandbox, scope)
) STRICT;
CREATE INDEX s3_keys_of_project ON s3_keys (project);
CREATE INDEX s3_keys_of_user ON s3_keys (user_id);
