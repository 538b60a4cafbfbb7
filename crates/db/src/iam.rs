//! Policies, resource groups, permissions groups and tags of accounts, with what they were before.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, json_list, micros, time};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A policy.
    Policy,
    /// A named list of resources.
    ResourceGroup,
    /// A named list of permissions.
    PermissionsGroup,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Policy, Kind::ResourceGroup, Kind::PermissionsGroup];

    /// The word that is stored, which is that of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Policy => "policy",
            Kind::ResourceGroup => "resourceGroup",
            Kind::PermissionsGroup => "permissionsGroup",
        }
    }
}

/// A document, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its id, a UUID.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What it says, a JSON object.
    pub text: String,
    /// When it was made.
    pub created: Timestamp,
    /// Since when it says this.
    pub since: Timestamp,
}

/// A tag of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The resource.
    pub urn: String,
    /// The name of the tag.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Puts a document in force.
pub async fn insert(tx: &mut Tx, account: &AccountId, document: &Document) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO iam_documents (id, account, kind, name, document, created, since) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&document.id)
    .bind(account.as_str())
    .bind(document.kind.as_str())
    .bind(&document.name)
    .bind(&document.text)
    .bind(micros(document.created))
    .bind(micros(document.since))
    .execute(tx.connection())
    .await?;
    changed(tx, account).await
}

/// Ends a document; whether it was in force.
pub async fn end(tx: &mut Tx, account: &AccountId, kind: Kind, id: &str, at: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE iam_documents SET until = MAX(since, ?) WHERE account = ? AND kind = ? AND id = ? AND until IS NULL",
    )
    .bind(micros(at))
    .bind(account.as_str())
    .bind(kind.as_str())
    .bind(id)
    .execute(tx.connection())
    .await?;
    changed(tx, account).await?;
    Ok(done.rows_affected() > 0)
}

/// The document of that id that is in force.
pub async fn find(db: &Db, account: &AccountId, kind: Kind, id: &str) -> Result<Option<Document>, Error> {
    let row = sqlx::query(
        "SELECT id, kind, name, document, created, since FROM iam_documents
         WHERE account = ? AND kind = ? AND id = ? AND until IS NULL",
    )
    .bind(account.as_str())
    .bind(kind.as_str())
    .bind(id)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(document).transpose()
}

/// Those documents in force of a kind that have one of these ids.
pub async fn named(db: &Db, account: &AccountId, kind: Kind, ids: &[&str]) -> Result<Vec<Document>, Error> {
    let rows = sqlx::query(
        "SELECT id, kind, name, document, created, since FROM iam_documents
         WHERE account = ? AND kind = ? AND until IS NULL AND id IN (SELECT value FROM json_each(?))",
    )
    .bind(account.as_str())
    .bind(kind.as_str())
    .bind(json_list(ids))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(document).collect()
}

/// Documents in force, oldest first, at most so many, after the one of id `after`; ids rise with time.
pub async fn page(
    db: &Db,
    account: &AccountId,
    kind: Kind,
    after: Option<&str>,
    most: u32,
) -> Result<Vec<Document>, Error> {
    let rows = sqlx::query(
        "SELECT id, kind, name, document, created, since FROM iam_documents
         WHERE account = ?1 AND kind = ?2 AND until IS NULL AND (?3 IS NULL OR id > ?3)
         ORDER BY id LIMIT ?4",
    )
    .bind(account.as_str())
    .bind(kind.as_str())
    .bind(after)
    .bind(most)
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(document).collect()
}

/// How many documents of a kind are in force, as this transaction sees them.
pub async fn count(tx: &mut Tx, account: &AccountId, kind: Kind) -> Result<i64, Error> {
    let counted =
        sqlx::query_scalar("SELECT COUNT(*) FROM iam_documents WHERE account = ? AND kind = ? AND until IS NULL")
            .bind(account.as_str())
            .bind(kind.as_str())
            .fetch_one(tx.connection())
            .await?;
    Ok(counted)
}

/// All documents that were in force at a time, or are; oldest first.
pub async fn in_force(db: &Db, account: &AccountId, at: Option<Timestamp>) -> Result<Vec<Document>, Error> {
    let rows = sqlx::query(
        "SELECT id, kind, name, document, created, since FROM iam_documents
         WHERE account = ?1
           AND ((?2 IS NULL AND until IS NULL) OR (since <= ?2 AND (until IS NULL OR until > ?2)))
         ORDER BY id",
    )
    .bind(account.as_str())
    .bind(at.map(micros))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(document).collect()
}

/// All documents in force, as this transaction sees them.
pub async fn in_force_now(tx: &mut Tx, account: &AccountId) -> Result<Vec<Document>, Error> {
    let rows = sqlx::query(
        "SELECT id, kind, name, document, created, since FROM iam_documents
         WHERE account = ? AND until IS NULL ORDER BY id",
    )
    .bind(account.as_str())
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(document).collect()
}

/// Sets a tag; whether it had another value, or none.
pub async fn set_tag(tx: &mut Tx, account: &AccountId, tag: &Tag, at: Timestamp) -> Result<bool, Error> {
    let same: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM iam_tags WHERE account = ? AND urn = ? AND key = ? AND value = ? AND until IS NULL",
    )
    .bind(account.as_str())
    .bind(&tag.urn)
    .bind(&tag.key)
    .bind(&tag.value)
    .fetch_optional(tx.connection())
    .await?;
    if same.is_some() {
        return Ok(false);
    }
    end_tag(tx, account, &tag.urn, &tag.key, at).await?;
    sqlx::query("INSERT INTO iam_tags (account, urn, key, value, since) VALUES (?, ?, ?, ?, ?)")
        .bind(account.as_str())
        .bind(&tag.urn)
        .bind(&tag.key)
        .bind(&tag.value)
        .bind(micros(at))
        .execute(tx.connection())
        .await?;
    Ok(true)
}

/// Ends a tag; whether it was there.
pub async fn end_tag(tx: &mut Tx, account: &AccountId, urn: &str, key: &str, at: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE iam_tags SET until = MAX(since, ?) WHERE account = ? AND urn = ? AND key = ? AND until IS NULL",
    )
    .bind(micros(at))
    .bind(account.as_str())
    .bind(urn)
    .bind(key)
    .execute(tx.connection())
    .await?;
    changed(tx, account).await?;
    Ok(done.rows_affected() > 0)
}

/// The tags of a resource, as this transaction sees them.
pub async fn tags_of(tx: &mut Tx, account: &AccountId, urn: &str) -> Result<Vec<Tag>, Error> {
    let rows = sqlx::query(
        "SELECT urn, key, value FROM iam_tags WHERE account = ? AND urn = ? AND until IS NULL ORDER BY key",
    )
    .bind(account.as_str())
    .bind(urn)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(tag).collect()
}

/// All tags that were there at a time, or are.
pub async fn tags(db: &Db, account: &AccountId, at: Option<Timestamp>) -> Result<Vec<Tag>, Error> {
    let rows = sqlx::query(
        "SELECT urn, key, value FROM iam_tags
         WHERE account = ?1
           AND ((?2 IS NULL AND until IS NULL) OR (since <= ?2 AND (until IS NULL OR until > ?2)))
         ORDER BY urn, key",
    )
    .bind(account.as_str())
    .bind(at.map(micros))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(tag).collect()
}

/// The tags of these resources.
pub async fn tags_of_named(db: &Db, account: &AccountId, urns: &[&str]) -> Result<Vec<Tag>, Error> {
    let rows = sqlx::query(
        "SELECT urn, key, value FROM iam_tags
         WHERE account = ? AND until IS NULL AND urn IN (SELECT value FROM json_each(?)) ORDER BY urn, key",
    )
    .bind(account.as_str())
    .bind(json_list(urns))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(tag).collect()
}

/// A number that rises with each change of an account's documents and tags; 0 if there never was one.
pub async fn change(db: &Db, account: &AccountId) -> Result<i64, Error> {
    let found: Option<i64> = sqlx::query_scalar("SELECT change FROM iam_changes WHERE account = ?")
        .bind(account.as_str())
        .fetch_optional(db.readers())
        .await?;
    Ok(found.unwrap_or(0))
}

async fn changed(tx: &mut Tx, account: &AccountId) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO iam_changes (account, change) VALUES (?, 1)
         ON CONFLICT (account) DO UPDATE SET change = change + 1",
    )
    .bind(account.as_str())
    .execute(tx.connection())
    .await?;
    Ok(())
}

fn document(row: &SqliteRow) -> Result<Document, Error> {
    let word: String = row.try_get("kind")?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
    Ok(Document {
        id: row.try_get("id")?,
        kind: kind.ok_or(Error::Damaged { column: "iam_documents.kind" })?,
        name: row.try_get("name")?,
        text: row.try_get("document")?,
        created: time("iam_documents.created", row.try_get("created")?)?,
        since: time("iam_documents.since", row.try_get("since")?)?,
    })
}

fn tag(row: &SqliteRow) -> Result<Tag, Error> {
    Ok(Tag { urn: row.try_get("urn")?, key: row.try_get("key")?, value: row.try_get("value")? })
}
