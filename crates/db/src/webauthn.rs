//! Security keys and passkeys of users of an account, and what authenticators know those users by.

use jiff::Timestamp;
use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, second_factors::last_use, time};

/// A security key, or a passkey: which, its authenticator says at each use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityKey {
    /// Its number.
    pub id: i64,
    /// The user.
    pub person: i64,
    /// What it is.
    pub description: String,
    /// `needCodeValidation`, `enabled` or `disabled`.
    pub status: String,
    /// What its authenticator said when it was validated; `None` before.
    pub credential: Option<StoredCredential>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub last_use: Option<Timestamp>,
}

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// What its authenticator knows it by.
    pub id: Vec<u8>,
    /// A COSE_Key (RFC 9052, section 7).
    pub public_key: Vec<u8>,
    /// Whether its authenticator may copy it to other devices.
    pub backup_eligible: bool,
    /// How often it was used, by its authenticator's count; 0: it counts not.
    pub sign_count: u32,
}

/// Adds a key that is not validated; its number is the answer.
pub async fn insert(tx: &mut Tx, person: i64, status: &str, created: Timestamp) -> Result<i64, Error> {
    let done = sqlx::query("INSERT INTO security_keys (person, description, status, created) VALUES (?, '', ?, ?)")
        .bind(person)
        .bind(status)
        .bind(micros(created))
        .execute(tx.connection())
        .await?;
    Ok(done.last_insert_rowid())
}

/// The keys of a user, oldest first.
pub async fn list(db: &Db, person: i64) -> Result<Vec<SecurityKey>, Error> {
    list_of(db.readers(), person).await
}

/// The keys of a user, oldest first, as this transaction sees them.
pub async fn list_in(tx: &mut Tx, person: i64) -> Result<Vec<SecurityKey>, Error> {
    list_of(tx.connection(), person).await
}

async fn list_of(executor: impl SqliteExecutor<'_>, person: i64) -> Result<Vec<SecurityKey>, Error> {
    let rows = sqlx::query(
        "SELECT id, person, description, status, credential, public_key, backup_eligible, sign_count, created, last_use
         FROM security_keys WHERE person = ? ORDER BY id",
    )
    .bind(person)
    .fetch_all(executor)
    .await?;
    rows.iter().map(security_key).collect()
}

/// Whose key a credential is.
pub async fn person_of_credential(db: &Db, credential: &[u8]) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT person FROM security_keys WHERE credential = ?")
        .bind(credential)
        .fetch_optional(db.readers())
        .await?)
}

/// Writes description, status and credential of a key; whether it was there.
pub async fn update(tx: &mut Tx, key: &SecurityKey) -> Result<bool, Error> {
    let credential = key.credential.as_ref();
    let done = sqlx::query(
        "UPDATE security_keys SET description = ?, status = ?, credential = ?, public_key = ?, backup_eligible = ?, sign_count = ?
         WHERE id = ?",
    )
    .bind(&key.description)
    .bind(&key.status)
    .bind(credential.map(|stored| stored.id.as_slice()))
    .bind(credential.map(|stored| stored.public_key.as_slice()))
    .bind(credential.is_some_and(|stored| stored.backup_eligible))
    .bind(credential.map_or(0, |stored| i64::from(stored.sign_count)))
    .bind(key.id)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Writes what a use of a key changes; whether it was there.
pub async fn used(tx: &mut Tx, id: i64, sign_count: u32, now: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE security_keys SET sign_count = ?, last_use = ? WHERE id = ?")
        .bind(i64::from(sign_count))
        .bind(micros(now))
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes a key; whether it was there.
pub async fn delete(tx: &mut Tx, id: i64) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM security_keys WHERE id = ?").bind(id).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// Removes all keys of a user, and what authenticators know it by; how many keys there were.
pub async fn delete_all(tx: &mut Tx, person: i64) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM security_keys WHERE person = ?").bind(person).execute(tx.connection()).await?;
    sqlx::query("DELETE FROM webauthn_users WHERE person = ?").bind(person).execute(tx.connection()).await?;
    Ok(done.rows_affected())
}

/// What authenticators know a user by: `new`, unless it has another already.
pub async fn handle_or(tx: &mut Tx, person: i64, new: &[u8]) -> Result<Vec<u8>, Error> {
    sqlx::query("INSERT INTO webauthn_users (person, handle) VALUES (?, ?) ON CONFLICT (person) DO NOTHING")
        .bind(person)
        .bind(new)
        .execute(tx.connection())
        .await?;
    Ok(sqlx::query_scalar("SELECT handle FROM webauthn_users WHERE person = ?")
        .bind(person)
        .fetch_one(tx.connection())
        .await?)
}

/// What authenticators know a user by; `None` if they know it not.
pub async fn handle(tx: &mut Tx, person: i64) -> Result<Option<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar("SELECT handle FROM webauthn_users WHERE person = ?")
        .bind(person)
        .fetch_optional(tx.connection())
        .await?)
}

fn security_key(row: &SqliteRow) -> Result<SecurityKey, Error> {
    let (id, public_key): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.try_get("credential")?, row.try_get("public_key")?);
    let credential = match id.zip(public_key) {
        Some((id, public_key)) => Some(StoredCredential {
            id,
            public_key,
            backup_eligible: row.try_get("backup_eligible")?,
            sign_count: row.try_get("sign_count")?,
        }),
        None => None,
    };
    Ok(SecurityKey {
        id: row.try_get("id")?,
        person: row.try_get("person")?,
        description: row.try_get("description")?,
        status: row.try_get("status")?,
        credential,
        created: time("security_keys.created", row.try_get("created")?)?,
        last_use: last_use(row, "security_keys.last_use")?,
    })
}
