-- Single sign-on by SAML 2.0. Times are Unix microseconds.

-- The provider of an account. metadata: what it says of itself, as it was given. extensions: JSON, as it was given; NULL: not
-- given. request_key: by which our requests are signed, sealed by the key of the account; request_certificate: its public half
-- (X.509, DER).
CREATE TABLE saml_providers (
    account              TEXT PRIMARY KEY REFERENCES sso_providers (account) ON DELETE CASCADE,
    metadata             TEXT NOT NULL,
    user_attribute       TEXT NOT NULL,
    group_attribute      TEXT NOT NULL,
    extensions           TEXT,
    sign_requests        INTEGER NOT NULL CHECK (sign_requests IN (0, 1)),
    request_key          BLOB NOT NULL,
    request_certificate  BLOB NOT NULL
) STRICT;

-- Assertions that were used: each is good once. A row stays until the assertion would be good no more in any case, whatever
-- becomes of the provider meanwhile.
CREATE TABLE saml_assertions (
    account  TEXT NOT NULL REFERENCES accounts (id),
    id       TEXT NOT NULL,
    expires  INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) STRICT;
CREATE INDEX saml_assertions_by_end ON saml_assertions (expires);
