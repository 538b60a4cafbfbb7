-- What users of an account prove themselves by beside their password. Times are Unix microseconds.

-- Whether each user of the account needs one to log in.
ALTER TABLE accounts ADD COLUMN second_factor INTEGER NOT NULL DEFAULT 0 CHECK (second_factor IN (0, 1));

-- secret: sealed by the key of the account. last_step: the time step of the newest code that was used (RFC 6238); none of
-- before it, and not it itself, is good again.
CREATE TABLE totps (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    person       INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    description  TEXT NOT NULL,
    secret       BLOB NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('needCodeValidation', 'enabled', 'disabled')),
    last_step    INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    last_use     INTEGER
) STRICT;
CREATE INDEX totps_of_person ON totps (person);

-- Codes that are good once each: those of a user come and go together.
CREATE TABLE backup_code_sets (
    person    INTEGER PRIMARY KEY REFERENCES people (id) ON DELETE CASCADE,
    status    TEXT NOT NULL CHECK (status IN ('needCodeValidation', 'enabled', 'disabled')),
    created   INTEGER NOT NULL,
    last_use  INTEGER
) STRICT;

-- hash: SHA-256 of a code, which is random and nowhere itself; the row goes with its use.
CREATE TABLE backup_codes (
    hash    BLOB PRIMARY KEY,
    person  INTEGER NOT NULL REFERENCES backup_code_sets (person) ON DELETE CASCADE
) STRICT;
CREATE INDEX backup_codes_of_person ON backup_codes (person);
