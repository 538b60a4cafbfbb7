-- Service accounts: clients of OAuth2 that act as themselves. Times are Unix microseconds.

-- secret_hash: SHA-256 of the secret, which is random and nowhere itself. callback_urls: a JSON list.
CREATE TABLE oauth2_clients (
    id             TEXT PRIMARY KEY,
    account        TEXT NOT NULL REFERENCES accounts (id),
    name           TEXT NOT NULL,
    description    TEXT NOT NULL,
    callback_urls  TEXT NOT NULL,
    secret_hash    BLOB NOT NULL,
    created        INTEGER NOT NULL,
    last_use       INTEGER
) STRICT;
CREATE INDEX oauth2_clients_of_account ON oauth2_clients (account, created);

-- hash: SHA-256 of an access token, which is nowhere itself.
CREATE TABLE oauth2_tokens (
    hash      BLOB PRIMARY KEY,
    client    TEXT NOT NULL REFERENCES oauth2_clients (id) ON DELETE CASCADE,
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    last_use  INTEGER
) STRICT;
CREATE INDEX oauth2_tokens_of_client ON oauth2_tokens (client, created);
CREATE INDEX oauth2_tokens_by_end ON oauth2_tokens (expires);
