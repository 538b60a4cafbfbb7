-- Who may use the object store: roles, policies and passwords of users, states of keys, temporary keys, tokens.

-- roles: names, a space between them. policy: in the AWS language. password: an Argon2id hash (PHC string).
ALTER TABLE project_users ADD COLUMN roles TEXT NOT NULL DEFAULT 'objectstore_operator';
ALTER TABLE project_users ADD COLUMN policy TEXT;
ALTER TABLE project_users ADD COLUMN password TEXT;

-- session_policy: narrows the key of a sandbox.
ALTER TABLE s3_keys ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1));
ALTER TABLE s3_keys ADD COLUMN last_used INTEGER;
ALTER TABLE s3_keys ADD COLUMN session_policy TEXT;

-- Keys that end by themselves; each ends with the key that it was made by as well, and is good for no more.
-- role: NULL for a plain session of the holder. policies: a JSON list of texts, all of which must allow.
-- secret, token: sealed by the key of the project.
CREATE TABLE s3_temporary_keys (
    access    TEXT PRIMARY KEY,
    parent    TEXT NOT NULL REFERENCES s3_keys (access) ON DELETE CASCADE,
    role      TEXT,
    session   TEXT,
    policies  TEXT NOT NULL,
    secret    BLOB NOT NULL,
    token     BLOB NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    CHECK ((role IS NULL) = (session IS NULL))
) STRICT;
CREATE INDEX s3_temporary_keys_of_parent ON s3_temporary_keys (parent, expires);
CREATE INDEX s3_temporary_keys_by_end ON s3_temporary_keys (expires);

-- hash: SHA-256 of a token that a user got for a password; the token itself is nowhere.
CREATE TABLE user_tokens (
    hash     BLOB PRIMARY KEY,
    user_id  INTEGER NOT NULL REFERENCES project_users (id) ON DELETE CASCADE,
    created  INTEGER NOT NULL,
    expires  INTEGER NOT NULL
) STRICT;
CREATE INDEX user_tokens_of_user ON user_tokens (user_id, created);
CREATE INDEX user_tokens_by_end ON user_tokens (expires);
