-- From where an account is reached: its API and its log-ins. block: an address block; NULL: all addresses that no other row
-- of the account is about.
CREATE TABLE ip_restrictions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    account  TEXT NOT NULL REFERENCES accounts (id),
    block    TEXT,
    rule     TEXT NOT NULL CHECK (rule IN ('accept', 'deny')),
    warning  INTEGER NOT NULL CHECK (warning IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX ip_restrictions_of_account ON ip_restrictions (account, coalesce(block, ''));
