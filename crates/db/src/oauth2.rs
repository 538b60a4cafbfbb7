//! Service accounts (clients of OAuth2) and their access tokens.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// A JSON list of URLs.
    pub callback_urls: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it last asked for a token, to within the batch of its writing.
    pub last_use: Option<Timestamp>,
}

/// An access token, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the token.
    pub hash: Vec<u8>,
    /// The client.
    pub client: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was last used, to within the batch of its writing.
    pub last_use: Option<Timestamp>,
}

/// Adds a client with the hash of its secret.
pub async fn insert(tx: &mut Tx, client: &Client, secret_hash: &[u8]) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO oauth2_clients (id, account, name, description, callback_urls, secret_hash, created)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&client.id)
    .bind(client.account.as_str())
    .bind(&client.name)
    .bind(&client.description)
    .bind(&client.callback_urls)
    .bind(secret_hash)
    .bind(micros(client.created))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// How many clients an account has, as this transaction sees them.
pub async fn count(tx: &mut Tx, account: &AccountId) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM oauth2_clients WHERE account = ?")
        .bind(account.as_str())
        .fetch_one(tx.connection())
        .await?)
}

/// The clients of an account, or all, oldest first.
pub async fn list(db: &Db, of: Option<&AccountId>) -> Result<Vec<Client>, Error> {
    let rows = sqlx::query(
        "SELECT id, account, name, description, callback_urls, created, last_use FROM oauth2_clients
         WHERE ?1 IS NULL OR account = ?1 ORDER BY created, id",
    )
    .bind(of.map(AccountId::as_str))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(client).collect()
}

/// The client of that id, with the hash of its secret.
pub async fn find(db: &Db, id: &str) -> Result<Option<(Client, Vec<u8>)>, Error> {
    let row = sqlx::query(
        "SELECT id, account, name, description, callback_urls, created, last_use, secret_hash FROM oauth2_clients
         WHERE id = ?",
    )
    .bind(id)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(|row| Ok((client(row)?, row.try_get("secret_hash")?))).transpose()
}

/// Writes what may change of a client: name, description, callback URLs; whether there is such a client.
pub async fn update(tx: &mut Tx, client: &Client) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE oauth2_clients SET name = ?, description = ?, callback_urls = ? WHERE id = ?")
        .bind(&client.name)
        .bind(&client.description)
        .bind(&client.callback_urls)
        .bind(&client.id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes a client of an account with its tokens; whether it was there.
pub async fn delete(tx: &mut Tx, account: &AccountId, id: &str) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM oauth2_clients WHERE account = ? AND id = ?")
        .bind(account.as_str())
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Adds a token.
pub async fn insert_token(tx: &mut Tx, token: &Token) -> Result<(), Error> {
    sqlx::query("INSERT INTO oauth2_tokens (hash, client, created, expires) VALUES (?, ?, ?, ?)")
        .bind(&token.hash)
        .bind(&token.client)
        .bind(micros(token.created))
        .bind(micros(token.expires))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// The token of that hash, and the account of its client.
pub async fn find_token(db: &Db, hash: &[u8]) -> Result<Option<(Token, AccountId)>, Error> {
    let row = sqlx::query(
        "SELECT t.hash, t.client, t.created, t.expires, t.last_use, c.account
         FROM oauth2_tokens t JOIN oauth2_clients c ON c.id = t.client WHERE t.hash = ?",
    )
    .bind(hash)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(with_account).transpose()
}

/// Removes a token; whether it was there.
pub async fn delete_token(tx: &mut Tx, hash: &[u8]) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM oauth2_tokens WHERE hash = ?").bind(hash).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the oldest tokens of a client, so that at most `keep` remain.
pub async fn delete_oldest_tokens(tx: &mut Tx, client: &str, keep: i64) -> Result<u64, Error> {
    let done = sqlx::query(
        "DELETE FROM oauth2_tokens WHERE client = ?1 AND hash NOT IN
         (SELECT hash FROM oauth2_tokens WHERE client = ?1 ORDER BY created DESC, hash LIMIT ?2)",
    )
    .bind(client)
    .bind(keep)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Removes the tokens that ended by `now`; how many there were.
pub async fn delete_expired_tokens(tx: &mut Tx, now: Timestamp) -> Result<u64, Error> {
    let done =
        sqlx::query("DELETE FROM oauth2_tokens WHERE expires <= ?").bind(micros(now)).execute(tx.connection()).await?;
    Ok(done.rows_affected())
}

/// Writes when clients and tokens were last used.
pub async fn touch(tx: &mut Tx, clients: &[(String, Timestamp)], tokens: &[(Vec<u8>, Timestamp)]) -> Result<(), Error> {
    for (id, at) in clients {
        sqlx::query("UPDATE oauth2_clients SET last_use = max(coalesce(last_use, 0), ?) WHERE id = ?")
            .bind(micros(*at))
            .bind(id)
            .execute(tx.connection())
            .await?;
    }
    for (hash, at) in tokens {
        sqlx::query("UPDATE oauth2_tokens SET last_use = max(coalesce(last_use, 0), ?) WHERE hash = ?")
            .bind(micros(*at))
            .bind(hash)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

fn with_account(row: &SqliteRow) -> Result<(Token, AccountId), Error> {
    Ok((token(row)?, parse("oauth2_clients.account", row.try_get("account")?)?))
}

fn client(row: &SqliteRow) -> Result<Client, Error> {
    let last_use: Option<i64> = row.try_get("last_use")?;
    Ok(Client {
        id: row.try_get("id")?,
        account: parse("oauth2_clients.account", row.try_get("account")?)?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        callback_urls: row.try_get("callback_urls")?,
        created: time("oauth2_clients.created", row.try_get("created")?)?,
        last_use: last_use.map(|at| time("oauth2_clients.last_use", at)).transpose()?,
    })
}

fn token(row: &SqliteRow) -> Result<Token, Error> {
    let last_use: Option<i64> = row.try_get("last_use")?;
    Ok(Token {
        hash: row.try_get("hash")?,
        client: row.try_get("client")?,
        created: time("oauth2_tokens.created", row.try_get("created")?)?,
        expires: time("oauth2_tokens.expires", row.try_get("expires")?)?,
        last_use: last_use.map(|at| time("oauth2_tokens.last_use", at)).transpose()?,
    })
}
