-- Security keys and passkeys of users (WebAuthn). Times are Unix microseconds. Challenges are in memory alone.

-- handle: random; what an authenticator knows the user by. It tells nothing of the user.
CREATE TABLE webauthn_users (
    person  INTEGER PRIMARY KEY REFERENCES people (id) ON DELETE CASCADE,
    handle  BLOB NOT NULL UNIQUE
) STRICT;

-- credential, public_key (a COSE_Key, RFC 9052), backup_eligible: what the authenticator said when the key was validated;
-- no one before. sign_count: its counter at the last use; 0 for ever if it counts not.
CREATE TABLE security_keys (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    person           INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    description      TEXT NOT NULL,
    status           TEXT NOT NULL CHECK (status IN ('needCodeValidation', 'enabled', 'disabled')),
    credential       BLOB UNIQUE,
    public_key       BLOB,
    backup_eligible  INTEGER NOT NULL DEFAULT 0 CHECK (backup_eligible IN (0, 1)),
    sign_count       INTEGER NOT NULL DEFAULT 0,
    created          INTEGER NOT NULL,
    last_use         INTEGER,
    CHECK (status = 'needCodeValidation' OR (credential IS NOT NULL AND public_key IS NOT NULL))
) STRICT;
CREATE INDEX security_keys_of_person ON security_keys (person);
