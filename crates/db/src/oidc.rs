//! Providers of single sign-on by OpenID Connect.

use model::AccountId;
use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{Db, Error, Tx, parse};

/// What a provider by OpenID Connect has beside what all have ([`crate::sso::Provider`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The account.
    pub account: AccountId,
    /// Its issuer identifier, as it was given.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// Our secret there, sealed; `None`: a public client.
    pub sealed_secret: Option<Vec<u8>>,
    /// What is asked for, separated by a space.
    pub scopes: String,
    /// The claim that names a person.
    pub user_claim: String,
    /// The claim that names the groups of a person.
    pub group_claim: String,
}

/// Writes the provider of an account, which has its row in [`crate::sso`].
pub async fn put(tx: &mut Tx, provider: &Provider) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO oidc_providers (account, issuer, client_id, client_secret, scopes, user_claim, group_claim)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (account) DO UPDATE SET issuer = excluded.issuer, client_id = excluded.client_id,
             client_secret = excluded.client_secret, scopes = excluded.scopes, user_claim = excluded.user_claim,
             group_claim = excluded.group_claim",
    )
    .bind(provider.account.as_str())
    .bind(&provider.issuer)
    .bind(&provider.client_id)
    .bind(&provider.sealed_secret)
    .bind(&provider.scopes)
    .bind(&provider.user_claim)
    .bind(&provider.group_claim)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The provider of an account.
pub async fn find(db: &Db, account: &AccountId) -> Result<Option<Provider>, Error> {
    of(db.readers(), account).await
}

/// The provider of an account, as this transaction sees it.
pub async fn find_in(tx: &mut Tx, account: &AccountId) -> Result<Option<Provider>, Error> {
    of(tx.connection(), account).await
}

async fn of(executor: impl SqliteExecutor<'_>, account: &AccountId) -> Result<Option<Provider>, Error> {
    let row = sqlx::query(
        "SELECT account, issuer, client_id, client_secret, scopes, user_claim, group_claim
         FROM oidc_providers WHERE account = ?",
    )
    .bind(account.as_str())
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(provider).transpose()
}

fn provider(row: &SqliteRow) -> Result<Provider, Error> {
    Ok(Provider {
        account: parse("oidc_providers.account", row.try_get("account")?)?,
        issuer: row.try_get("issuer")?,
        client_id: row.try_get("client_id")?,
        sealed_secret: row.try_get("client_secret")?,
        scopes: row.try_get("scopes")?,
        user_claim: row.try_get("user_claim")?,
        group_claim: row.try_get("group_claim")?,
    })
}
