//! Single sign-on by SAML: what the providers of accounts have beside what all kinds have ([`crate::sso`]), and assertions
//! that were used.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse};

/// The provider of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The account.
    pub account: AccountId,
    /// What the provider says of itself, as it was given.
    pub metadata: String,
    /// The attribute that names a person.
    pub user_attribute: String,
    /// The attribute that names the groups of a person.
    pub group_attribute: String,
    /// Further wishes, JSON as it was given.
    pub extensions: Option<String>,
    /// Whether requests are signed.
    pub sign_requests: bool,
    /// The key of requests, sealed.
    pub sealed_key: Vec<u8>,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
}

/// Adds what the provider of an account has beside.
pub async fn insert(tx: &mut Tx, provider: &Provider) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO saml_providers (account, metadata, user_attribute, group_attribute, extensions, sign_requests,
                                     request_key, request_certificate)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(provider.account.as_str())
    .bind(&provider.metadata)
    .bind(&provider.user_attribute)
    .bind(&provider.group_attribute)
    .bind(&provider.extensions)
    .bind(provider.sign_requests)
    .bind(&provider.sealed_key)
    .bind(&provider.certificate)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The provider of an account, if it is one of SAML.
pub async fn find(db: &Db, account: &AccountId) -> Result<Option<Provider>, Error> {
    of(db.readers(), account).await
}

/// The provider of an account, if it is one of SAML, as this transaction sees it.
pub async fn find_in(tx: &mut Tx, account: &AccountId) -> Result<Option<Provider>, Error> {
    of(tx.connection(), account).await
}

async fn of(executor: impl SqliteExecutor<'_>, account: &AccountId) -> Result<Option<Provider>, Error> {
    let row = sqlx::query(
        "SELECT account, metadata, user_attribute, group_attribute, extensions, sign_requests, request_key,
                request_certificate
         FROM saml_providers WHERE account = ?",
    )
    .bind(account.as_str())
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(provider).transpose()
}

/// Writes what may change of a provider: all but its key; whether it was there.
pub async fn update(tx: &mut Tx, provider: &Provider) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE saml_providers
         SET metadata = ?, user_attribute = ?, group_attribute = ?, extensions = ?, sign_requests = ?
         WHERE account = ?",
    )
    .bind(&provider.metadata)
    .bind(&provider.user_attribute)
    .bind(&provider.group_attribute)
    .bind(&provider.extensions)
    .bind(provider.sign_requests)
    .bind(provider.account.as_str())
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Uses up an assertion; whether it was not used before. Those whose time is over at `now` are forgotten.
pub async fn use_assertion(
    tx: &mut Tx,
    account: &AccountId,
    id: &str,
    expires: Timestamp,
    now: Timestamp,
) -> Result<bool, Error> {
    sqlx::query("DELETE FROM saml_assertions WHERE expires < ?").bind(micros(now)).execute(tx.connection()).await?;
    let done =
        sqlx::query("INSERT INTO saml_assertions (account, id, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(account.as_str())
            .bind(id)
            .bind(micros(expires))
            .execute(tx.connection())
            .await?;
    Ok(done.rows_affected() > 0)
}

fn provider(row: &SqliteRow) -> Result<Provider, Error> {
    Ok(Provider {
        account: parse("saml_providers.account", row.try_get("account")?)?,
        metadata: row.try_get("metadata")?,
        user_attribute: row.try_get("user_attribute")?,
        group_attribute: row.try_get("group_attribute")?,
        extensions: row.try_get("extensions")?,
        sign_requests: row.try_get("sign_requests")?,
        sealed_key: row.try_get("request_key")?,
        certificate: row.try_get("request_certificate")?,
    })
}
