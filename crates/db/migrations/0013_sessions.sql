-- Sessions of the console. Times are Unix microseconds.
-- hash: SHA-256 of the secret in the browser's cookie; the secret itself is nowhere. Either person, or federated and groups
-- (a JSON list of names), for one that a provider vouched for. factor: the word of the audit log. expires: the end in any case.
CREATE TABLE sessions (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    hash        BLOB NOT NULL UNIQUE,
    account     TEXT NOT NULL REFERENCES accounts (id),
    person      INTEGER REFERENCES people (id) ON DELETE CASCADE,
    federated   TEXT,
    groups      TEXT,
    factor      TEXT NOT NULL,
    source_ip   TEXT,
    user_agent  TEXT NOT NULL,
    created     INTEGER NOT NULL,
    last_use    INTEGER NOT NULL,
    expires     INTEGER NOT NULL,
    CHECK ((person IS NULL) = (federated IS NOT NULL) AND (federated IS NULL) = (groups IS NULL))
) STRICT;
CREATE INDEX sessions_of_person ON sessions (person) WHERE person IS NOT NULL;
CREATE INDEX sessions_of_federated ON sessions (account, federated) WHERE federated IS NOT NULL;
CREATE INDEX sessions_by_end ON sessions (expires);
