-- Single sign-on: who vouches for people of an account. Times are Unix microseconds.

-- The provider of an account: it has one, of whatever kind. disable_users: users of the account log in by it alone.
CREATE TABLE sso_providers (
    account        TEXT PRIMARY KEY REFERENCES accounts (id),
    kind           TEXT NOT NULL CHECK (kind IN ('OIDC', 'SAML')),
    disable_users  INTEGER NOT NULL CHECK (disable_users IN (0, 1)),
    created        INTEGER NOT NULL,
    updated        INTEGER NOT NULL
) STRICT;

-- Log-ins that were begun at a provider and may be answered, once each. state, browser: SHA-256 of what comes back with the
-- answer, and of what the browser's cookie holds, both random and nowhere themselves. data: what the answer is held against,
-- sealed by the key of the account. source: the address from which it was begun.
CREATE TABLE sso_states (
    state    BLOB PRIMARY KEY,
    browser  BLOB NOT NULL,
    account  TEXT NOT NULL REFERENCES accounts (id),
    kind     TEXT NOT NULL CHECK (kind IN ('OIDC', 'SAML')),
    data     BLOB NOT NULL,
    source   TEXT NOT NULL,
    expires  INTEGER NOT NULL
) STRICT;
CREATE INDEX sso_states_of_account ON sso_states (account, expires);
CREATE INDEX sso_states_of_source ON sso_states (source, expires);
CREATE INDEX sso_states_by_end ON sso_states (expires);

-- A provider by OpenID Connect. client_secret: sealed by the key of the account; NULL: a public client, which has PKCE alone.
CREATE TABLE oidc_providers (
    account        TEXT PRIMARY KEY REFERENCES sso_providers (account) ON DELETE CASCADE,
    issuer         TEXT NOT NULL,
    client_id      TEXT NOT NULL,
    client_secret  BLOB,
    scopes         TEXT NOT NULL,
    user_claim     TEXT NOT NULL,
    group_claim    TEXT NOT NULL
) STRICT;
