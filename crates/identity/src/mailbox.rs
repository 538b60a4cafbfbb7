//! Mailboxes: what accounts are told, where the old service sent mail. A text may hold a token, so it is sealed by the key of
//! the account, and the operator has no command that reads it.

use db::Tx;
use jiff::Timestamp;
use model::AccountId;
use zeroize::Zeroizing;

use crate::{Error, Identity};

/// What an account was told.
#[derive(Debug)]
pub struct Notification {
    /// Its number.
    pub id: i64,
    /// What it is about.
    pub subject: String,
    /// Its text.
    pub body: Zeroizing<String>,
    /// When it was written.
    pub created: Timestamp,
}

impl Identity {
    /// Tells an account something, with the transaction that it is about. The newest thousand of an account are kept.
    pub async fn notify_in(&self, tx: &mut Tx, account: &AccountId, subject: &str, body: &str) -> Result<i64, Error> {
        let id = db::notifications::insert(tx, account, subject, crate::now(), MOST).await?;
        let sealed = self.seal_of_account(account, &context(id), body)?;
        db::notifications::set_body(tx, id, &sealed).await?;
        Ok(id)
    }

    /// Numbers of what an account was told, oldest first.
    pub async fn notifications(&self, account: &AccountId) -> Result<Vec<i64>, Error> {
        Ok(db::notifications::list(&self.db, account).await?)
    }

    /// One of these.
    pub async fn notification(&self, account: &AccountId, id: i64) -> Result<Option<Notification>, Error> {
        let Some(row) = db::notifications::find(&self.db, account, id).await? else { return Ok(None) };
        let body = self.open_of_account(account, &context(id), &row.sealed_body)?;
        Ok(Some(Notification { id: row.id, subject: row.subject, body, created: row.created }))
    }
}

fn context(id: i64) -> String {
    format!("notification/{id}")
}

const MOST: i64 = 1000;
