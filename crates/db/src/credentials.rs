//! Applications and consumer credentials.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// An application: the half of an API key that a program has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub account: AccountId,
    /// Its public key.
    pub key: String,
    /// Its secret, sealed.
    pub sealed_secret: Vec<u8>,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
}

/// A consumer credential: the half of an API key that a person grants. Rules and addresses are JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its number.
    pub id: i64,
    /// The application that it was granted to.
    pub application: i64,
    /// The account that granted it; `None` while nobody has.
    pub account: Option<AccountId>,
    /// The number of the user of the account that granted it; `None`: the account itself.
    pub person: Option<i64>,
    /// SHA-256 of the consumer key.
    pub key_hash: Vec<u8>,
    /// SHA-256 of the one-time validation token.
    pub token_hash: Option<Vec<u8>>,
    /// `pendingValidation`, `validated`, `refused` or `expired`.
    pub status: String,
    /// Access rules, a JSON list.
    pub rules: String,
    /// Allowed addresses, a JSON list; `None` allows all.
    pub allowed_ips: Option<String>,
    /// Where a person goes after validation.
    pub redirection: Option<String>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ends.
    pub expiration: Option<Timestamp>,
    /// When it was last used, to within the batch of its writing.
    pub last_use: Option<Timestamp>,
}

/// What is written when a pending credential is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who grants it.
    pub account: AccountId,
    /// The user of the account that grants it; `None`: the account itself.
    pub person: Option<i64>,
    /// Allowed addresses, a JSON list; `None` allows all.
    pub allowed_ips: Option<String>,
    /// When it ends.
    pub expiration: Option<Timestamp>,
    /// The number of the credential that grants it; `None`: a person or the operator does.
    pub granted_by: Option<i64>,
}

/// Adds an application; its `id` is ignored, the new one is the answer.
pub async fn insert_application(tx: &mut Tx, application: &Application) -> Result<i64, Error> {
    let done = sqlx::query(
        "INSERT INTO applications (account, key, secret, name, description, created) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(application.account.as_str())
    .bind(&application.key)
    .bind(&application.sealed_secret)
    .bind(&application.name)
    .bind(&application.description)
    .bind(micros(application.created))
    .execute(tx.connection())
    .await?;
    Ok(done.last_insert_rowid())
}

/// The application of that public key.
pub async fn application_by_key(db: &Db, key: &str) -> Result<Option<Application>, Error> {
    let row =
        sqlx::query("SELECT id, account, key, secret, name, description, created FROM applications WHERE key = ?")
            .bind(key)
            .fetch_optional(db.readers())
            .await?;
    row.as_ref().map(application).transpose()
}

/// What a signed call names: the application of a public key, and the credential of a hashed consumer key, whosever it is.
pub async fn of_call(
    db: &Db,
    application_key: &str,
    key_hash: &[u8],
) -> Result<(Option<Application>, Option<Credential>), Error> {
    let row = sqlx::query(
        "SELECT a.id AS a_id, a.account AS a_account, a.key AS a_key, a.secret AS a_secret, a.name AS a_name,
                a.description AS a_description, a.created AS a_created,
                c.id, c.application, c.account, c.person, c.key_hash, c.token_hash, c.status, c.rules, c.allowed_ips,
                c.redirection, c.created, c.expiration, c.last_use
         FROM (SELECT 1) LEFT JOIN applications AS a ON a.key = ? LEFT JOIN credentials AS c ON c.key_hash = ?",
    )
    .bind(application_key)
    .bind(key_hash)
    .fetch_one(db.readers())
    .await?;
    let is_there = |id: &str| -> Result<bool, Error> { Ok(row.try_get::<Option<i64>, _>(id)?.is_some()) };
    let found = is_there("a_id")?.then(|| application_named(&row, "a_")).transpose()?;
    Ok((found, is_there("id")?.then(|| credential(&row)).transpose()?))
}

/// Some application, the oldest: its secret is opened where there is none of that key, so that the work is the same.
pub async fn any_application(db: &Db) -> Result<Option<Application>, Error> {
    let row = sqlx::query(
        "SELECT id, account, key, secret, name, description, created FROM applications ORDER BY id LIMIT 1",
    )
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(application).transpose()
}

/// Removes an application of an account with all credentials that were granted to it, and ends what those granted to others;
/// their numbers, or `None` if there is no such application.
pub async fn delete_application(tx: &mut Tx, account: &AccountId, id: i64) -> Result<Option<Vec<i64>>, Error> {
    let own: Option<i64> = sqlx::query_scalar("SELECT id FROM applications WHERE id = ? AND account = ?")
        .bind(id)
        .bind(account.as_str())
        .fetch_optional(tx.connection())
        .await?;
    if own.is_none() {
        return Ok(None);
    }
    let mut ended: Vec<i64> = sqlx::query_scalar("DELETE FROM credentials WHERE application = ? RETURNING id")
        .bind(id)
        .fetch_all(tx.connection())
        .await?;
    let elsewhere = expire_granted(tx, &ended).await?;
    ended.extend(elsewhere);
    sqlx::query("DELETE FROM applications WHERE id = ?").bind(id).execute(tx.connection()).await?;
    Ok(Some(ended))
}

/// The applications of an account, or all, oldest first.
pub async fn list_applications(db: &Db, of: Option<&AccountId>) -> Result<Vec<Application>, Error> {
    let rows = sqlx::query(
        "SELECT id, account, key, secret, name, description, created FROM applications
         WHERE ?1 IS NULL OR account = ?1 ORDER BY id",
    )
    .bind(of.map(AccountId::as_str))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(application).collect()
}

/// Adds a credential that was asked for from a source; its `id` is ignored, the new one is the answer.
pub async fn insert(tx: &mut Tx, credential: &Credential, source: &str) -> Result<i64, Error> {
    let done = sqlx::query(
        "INSERT INTO credentials
         (application, account, person, key_hash, token_hash, status, rules, allowed_ips, redirection, created,
          expiration, last_use, source)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(credential.application)
    .bind(credential.account.as_ref().map(AccountId::as_str))
    .bind(credential.person)
    .bind(&credential.key_hash)
    .bind(&credential.token_hash)
    .bind(&credential.status)
    .bind(&credential.rules)
    .bind(&credential.allowed_ips)
    .bind(&credential.redirection)
    .bind(micros(credential.created))
    .bind(credential.expiration.map(micros))
    .bind(credential.last_use.map(micros))
    .bind(source)
    .execute(tx.connection())
    .await?;
    Ok(done.last_insert_rowid())
}

/// The credential of that hashed validation token.
pub async fn by_token(db: &Db, token_hash: &[u8]) -> Result<Option<Credential>, Error> {
    let row = sqlx::query(
        "SELECT id, application, account, person, key_hash, token_hash, status, rules, allowed_ips, redirection, created,
                expiration, last_use
         FROM credentials WHERE token_hash = ?",
    )
    .bind(token_hash)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(credential).transpose()
}

/// The credential of that number.
pub async fn find(db: &Db, id: i64) -> Result<Option<Credential>, Error> {
    let row = sqlx::query(
        "SELECT id, application, account, person, key_hash, token_hash, status, rules, allowed_ips, redirection, created,
                expiration, last_use
         FROM credentials WHERE id = ?",
    )
    .bind(id)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(credential).transpose()
}

/// The credentials that an account granted, or all, oldest first.
pub async fn list(db: &Db, of: Option<&AccountId>) -> Result<Vec<Credential>, Error> {
    let rows = sqlx::query(
        "SELECT id, application, account, person, key_hash, token_hash, status, rules, allowed_ips, redirection, created,
                expiration, last_use
         FROM credentials
         WHERE ?1 IS NULL OR account = ?1 ORDER BY id",
    )
    .bind(of.map(AccountId::as_str))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(credential).collect()
}

/// Makes room for one more credential of an application that waits to be validated and is asked for from this source. Those
/// from before `before` go; then of the source all but the newest, so that there are fewer than `most_of_source`; then, where
/// the application has `most`, the oldest of the source that has most. The numbers of those that went.
pub async fn make_room(
    tx: &mut Tx,
    application: i64,
    source: &str,
    before: Timestamp,
    most_of_source: i64,
    most: i64,
) -> Result<Vec<i64>, Error> {
    let mut gone: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM credentials WHERE application = ? AND status = 'pendingValidation' AND created < ? RETURNING id",
    )
    .bind(application)
    .bind(micros(before))
    .fetch_all(tx.connection())
    .await?;
    let of_source: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM credentials WHERE id IN (
             SELECT id FROM credentials WHERE application = ? AND status = 'pendingValidation' AND source = ?
             ORDER BY id DESC LIMIT -1 OFFSET ?
         ) RETURNING id",
    )
    .bind(application)
    .bind(source)
    .bind(most_of_source - 1)
    .fetch_all(tx.connection())
    .await?;
    let of_all: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM credentials WHERE id = (
             SELECT min(id) FROM credentials WHERE application = ?1 AND status = 'pendingValidation' AND source IS (
                 SELECT source FROM credentials WHERE application = ?1 AND status = 'pendingValidation'
                 GROUP BY source ORDER BY count(*) DESC, min(id) LIMIT 1
             )
         ) AND ?2 <= (SELECT count(*) FROM credentials WHERE application = ?1 AND status = 'pendingValidation')
         RETURNING id",
    )
    .bind(application)
    .bind(most)
    .fetch_all(tx.connection())
    .await?;
    gone.extend(of_source);
    gone.extend(of_all);
    Ok(gone)
}

/// Grants a pending credential for `account` and uses up its token; whether it was pending.
pub async fn grant(tx: &mut Tx, id: i64, grant: &Grant) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE credentials
         SET status = 'validated', account = ?, person = ?, allowed_ips = ?, expiration = ?, granted_by = ?,
             token_hash = NULL
         WHERE id = ? AND status = 'pendingValidation'",
    )
    .bind(grant.account.as_str())
    .bind(grant.person)
    .bind(&grant.allowed_ips)
    .bind(grant.expiration.map(micros))
    .bind(grant.granted_by)
    .bind(id)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Refuses a pending credential and uses up its token; whether it was pending.
pub async fn refuse(tx: &mut Tx, id: i64) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE credentials SET status = 'refused', token_hash = NULL
         WHERE id = ? AND status = 'pendingValidation'",
    )
    .bind(id)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Whether a credential is good at that time, and bound to these addresses (a JSON list; `None` allows all).
pub async fn is_good(tx: &mut Tx, id: i64, allowed_ips: Option<&str>, at: Timestamp) -> Result<bool, Error> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM credentials
         WHERE id = ? AND status = 'validated' AND (expiration IS NULL OR expiration > ?) AND allowed_ips IS ?",
    )
    .bind(id)
    .bind(micros(at))
    .bind(allowed_ips)
    .fetch_optional(tx.connection())
    .await?;
    Ok(found.is_some())
}

/// Binds a credential to other addresses (a JSON list; `None` allows all); whether it is there and usable.
pub async fn set_allowed_ips(tx: &mut Tx, id: i64, allowed_ips: Option<&str>) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE credentials SET allowed_ips = ? WHERE id = ? AND status = 'validated'")
        .bind(allowed_ips)
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends a credential with all that it granted; the numbers of those that it granted, or `None` if it was ended before.
pub async fn expire(tx: &mut Tx, id: i64) -> Result<Option<Vec<i64>>, Error> {
    let done = sqlx::query(
        "UPDATE credentials SET status = 'expired', token_hash = NULL
         WHERE id = ? AND status IN ('validated', 'pendingValidation')",
    )
    .bind(id)
    .execute(tx.connection())
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    expire_granted(tx, &[id]).await.map(Some)
}

/// Ends what these credentials granted, what that granted, and so on; their numbers.
async fn expire_granted(tx: &mut Tx, by: &[i64]) -> Result<Vec<i64>, Error> {
    // Numbers have no way to fail here.
    let by = serde_json::to_string(by).unwrap_or_default();
    let mut ended: Vec<i64> = sqlx::query_scalar(
        "WITH RECURSIVE granted (id) AS (
             SELECT c.id FROM json_each(?) AS b JOIN credentials AS c ON c.granted_by = b.value
             UNION
             SELECT c.id FROM granted AS g JOIN credentials AS c ON c.granted_by = g.id
         )
         UPDATE credentials SET status = 'expired', token_hash = NULL
         WHERE id IN (SELECT id FROM granted) AND status = 'validated' RETURNING id",
    )
    .bind(by)
    .fetch_all(tx.connection())
    .await?;
    ended.sort_unstable();
    Ok(ended)
}

/// Ends all credentials that a user granted, but the one of the number `keep`, which from then on rests on the user and on no
/// other credential; their numbers. What a credential of a user granted is the user's too, so it is among them.
pub async fn expire_of_person(tx: &mut Tx, person: i64, keep: Option<i64>) -> Result<Vec<i64>, Error> {
    let ended: Vec<i64> = sqlx::query_scalar(
        "UPDATE credentials SET status = 'expired', token_hash = NULL
         WHERE person = ? AND status = 'validated' AND id IS NOT ? RETURNING id",
    )
    .bind(person)
    .bind(keep)
    .fetch_all(tx.connection())
    .await?;
    sqlx::query("UPDATE credentials SET granted_by = NULL WHERE id = ?").bind(keep).execute(tx.connection()).await?;
    Ok(ended)
}

/// Writes when credentials were last used.
pub async fn touch(tx: &mut Tx, uses: &[(i64, Timestamp)]) -> Result<(), Error> {
    for (id, at) in uses {
        sqlx::query("UPDATE credentials SET last_use = ?1 WHERE id = ?2 AND (last_use IS NULL OR last_use < ?1)")
            .bind(micros(*at))
            .bind(id)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

fn application(row: &SqliteRow) -> Result<Application, Error> {
    application_named(row, "")
}

/// The application in the columns whose names begin so.
fn application_named(row: &SqliteRow, begin: &str) -> Result<Application, Error> {
    let name = |column: &str| format!("{begin}{column}");
    let text = |column: &str| row.try_get::<&str, _>(name(column).as_str());
    Ok(Application {
        id: row.try_get(name("id").as_str())?,
        account: parse("applications.account", text("account")?)?,
        key: text("key")?.to_owned(),
        sealed_secret: row.try_get(name("secret").as_str())?,
        name: text("name")?.to_owned(),
        description: text("description")?.to_owned(),
        created: time("applications.created", row.try_get(name("created").as_str())?)?,
    })
}

fn credential(row: &SqliteRow) -> Result<Credential, Error> {
    let maybe = |column, micros: Option<i64>| micros.map(|micros| time(column, micros)).transpose();
    let account: Option<&str> = row.try_get("account")?;
    Ok(Credential {
        id: row.try_get("id")?,
        application: row.try_get("application")?,
        account: account.map(|text| parse("credentials.account", text)).transpose()?,
        person: row.try_get("person")?,
        key_hash: row.try_get("key_hash")?,
        token_hash: row.try_get("token_hash")?,
        status: row.try_get("status")?,
        rules: row.try_get("rules")?,
        allowed_ips: row.try_get("allowed_ips")?,
        redirection: row.try_get("redirection")?,
        created: time("credentials.created", row.try_get("created")?)?,
        expiration: maybe("credentials.expiration", row.try_get("expiration")?)?,
        last_use: maybe("credentials.last_use", row.try_get("last_use")?)?,
    })
}
