//! Single sign-on: the providers of accounts, and log-ins that were begun at them.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// The provider of an account, as far as all kinds of them are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The account.
    pub account: AccountId,
    /// `OIDC` or `SAML`.
    pub kind: String,
    /// Whether users of the account log in by the provider alone.
    pub disable_users: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// Adds the provider of an account. A second one of an account is [`Error::is_duplicate`].
pub async fn insert(tx: &mut Tx, provider: &Provider) -> Result<(), Error> {
    sqlx::query("INSERT INTO sso_providers (account, kind, disable_users, created, updated) VALUES (?, ?, ?, ?, ?)")
        .bind(provider.account.as_str())
        .bind(&provider.kind)
        .bind(provider.disable_users)
        .bind(micros(provider.created))
        .bind(micros(provider.updated))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// The provider of an account.
pub async fn find(db: &Db, account: &str) -> Result<Option<Provider>, Error> {
    of(db.readers(), account).await
}

/// The provider of an account, as this transaction sees it.
pub async fn find_in(tx: &mut Tx, account: &AccountId) -> Result<Option<Provider>, Error> {
    of(tx.connection(), account.as_str()).await
}

async fn of(executor: impl SqliteExecutor<'_>, account: &str) -> Result<Option<Provider>, Error> {
    let row = sqlx::query("SELECT account, kind, disable_users, created, updated FROM sso_providers WHERE account = ?")
        .bind(account)
        .fetch_optional(executor)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Provider {
        account: parse("sso_providers.account", row.try_get("account")?)?,
        kind: row.try_get("kind")?,
        disable_users: row.try_get("disable_users")?,
        created: time("sso_providers.created", row.try_get("created")?)?,
        updated: time("sso_providers.updated", row.try_get("updated")?)?,
    }))
}

/// Writes whether users of an account log in by its provider alone, and when that was last changed; whether it has one.
pub async fn update(tx: &mut Tx, provider: &Provider) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE sso_providers SET disable_users = ?, updated = ? WHERE account = ?")
        .bind(provider.disable_users)
        .bind(micros(provider.updated))
        .bind(provider.account.as_str())
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the provider of an account, with all that its kind has beside; whether it was there.
pub async fn delete(tx: &mut Tx, account: &AccountId) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM sso_providers WHERE account = ?")
        .bind(account.as_str())
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// A log-in that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The account.
    pub account: AccountId,
    /// `OIDC` or `SAML`.
    pub kind: String,
    /// What the answer is held against, sealed.
    pub sealed: Vec<u8>,
    /// From where it was begun: what one holder has whole.
    pub source: String,
    /// Until when it may be answered.
    pub expires: Timestamp,
}

/// How many log-ins may be begun at once; beyond that the oldest are forgotten, of an account those of the source that has
/// most of them.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Of an account.
    pub of_account: i64,
    /// From a source.
    pub of_source: i64,
}

/// Keeps a log-in that was begun, by the hashes of its state and of its browser's secret. Those whose time is over at `now`
/// are forgotten.
pub async fn insert_state(
    tx: &mut Tx,
    hash: &[u8],
    browser: &[u8],
    state: &State,
    most: Most,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM sso_states WHERE expires <= ?").bind(micros(now)).execute(tx.connection()).await?;
    // Those of the same source first: who floods the service forgets its own.
    sqlx::query(
        "DELETE FROM sso_states WHERE state IN
             (SELECT state FROM sso_states WHERE source = ? ORDER BY expires DESC LIMIT -1 OFFSET ?)",
    )
    .bind(&state.source)
    .bind(most.of_source - 1)
    .execute(tx.connection())
    .await?;
    // Who floods an account from several sources has most of its log-ins from one of them.
    sqlx::query(
        "DELETE FROM sso_states WHERE (SELECT COUNT(*) FROM sso_states WHERE account = ?1) >= ?2 AND state =
             (SELECT state FROM sso_states WHERE account = ?1 AND source =
                 (SELECT source FROM sso_states WHERE account = ?1 GROUP BY source
                  ORDER BY COUNT(*) DESC, MIN(expires) LIMIT 1)
              ORDER BY expires LIMIT 1)",
    )
    .bind(state.account.as_str())
    .bind(most.of_account)
    .execute(tx.connection())
    .await?;
    sqlx::query(
        "INSERT INTO sso_states (state, browser, account, kind, data, source, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(hash)
    .bind(browser)
    .bind(state.account.as_str())
    .bind(&state.kind)
    .bind(&state.sealed)
    .bind(&state.source)
    .bind(micros(state.expires))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Uses up the log-in of that state, browser and kind, if its time is not over at `now`.
pub async fn take_state(
    tx: &mut Tx,
    hash: &[u8],
    browser: &[u8],
    kind: &str,
    now: Timestamp,
) -> Result<Option<State>, Error> {
    let row = sqlx::query(
        "DELETE FROM sso_states WHERE state = ? AND browser = ? AND kind = ? AND expires > ?
         RETURNING account, kind, data, source, expires",
    )
    .bind(hash)
    .bind(browser)
    .bind(kind)
    .bind(micros(now))
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(state).transpose()
}

/// Gives up the log-ins of an account that were begun.
pub async fn delete_states(tx: &mut Tx, account: &AccountId) -> Result<(), Error> {
    sqlx::query("DELETE FROM sso_states WHERE account = ?").bind(account.as_str()).execute(tx.connection()).await?;
    Ok(())
}

fn state(row: &SqliteRow) -> Result<State, Error> {
    Ok(State {
        account: parse("sso_states.account", row.try_get("account")?)?,
        kind: row.try_get("kind")?,
        sealed: row.try_get("data")?,
        source: row.try_get("source")?,
        expires: time("sso_states.expires", row.try_get("expires")?)?,
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[tokio::test]
    async fn a_full_account_forgets_log_ins_of_the_source_that_has_most() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let account: AccountId = "ab1234-casemate".parse().expect("an account");
        let mut tx = db.begin().await.expect("a transaction");
        let now = Timestamp::now();
        let (id, email, name) = (account.clone(), String::new(), String::new());
        let row = crate::accounts::Account { id, email, name, created: now };
        crate::accounts::insert(&mut tx, &row).await.expect("an account");
        let most = Most { of_account: 5, of_source: 3 };
        // One person each from two places, then a flood from a third and a fourth.
        for (number, source) in "abccccccddddddcd".chars().enumerate() {
            let state = State {
                account: account.clone(),
                kind: "OIDC".to_owned(),
                sealed: Vec::new(),
                source: source.to_string(),
                expires: now + SignedDuration::from_secs(60 + number as i64),
            };
            insert_state(&mut tx, &[number as u8], b"browser", &state, most, now).await.expect("kept");
            let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sso_states")
                .fetch_one(tx.connection())
                .await
                .expect("counted");
            assert!(kept <= most.of_account, "{kept} after {number}");
        }
        for number in [0, 1] {
            let taken = take_state(&mut tx, &[number], b"browser", "OIDC", now).await.expect("read");
            assert!(taken.is_some(), "{number} was forgotten for those of others");
        }
        // The newest is there whatever is forgotten.
        assert!(take_state(&mut tx, &[15], b"browser", "OIDC", now).await.expect("read").is_some());
    }
}
