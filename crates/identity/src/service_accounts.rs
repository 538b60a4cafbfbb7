//! Service accounts: clients of OAuth2 that get tokens for their own id and secret, and act as themselves
//! (RFC 6749, section 4.4; tokens are sent as RFC 6750 says).

use std::net::IpAddr;

use audit::{Actor, Entry};
use jiff::{SignedDuration, Timestamp};
use model::AccountId;
use zeroize::Zeroizing;

use crate::{AccessRule, Caller, Error, Identity, Proof, Refusal, Urn, Who, accounts::dangling, random};

/// A service account, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its id: 16 hexadecimal digits.
    pub id: String,
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// URLs that clients of other flows have; kept as they were given.
    pub callback_urls: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it last got a token.
    pub last_use: Option<Timestamp>,
}

/// What a service account is to be, or to become.
#[derive(Debug, Clone, Default)]
pub struct ClientText {
    /// Its name: 1 to 255 bytes.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// URLs, at most 32.
    pub callback_urls: Vec<String>,
}

/// A new service account: the only time that its secret is shown.
#[derive(Debug)]
pub struct NewClient {
    /// The service account.
    pub client: Client,
    /// Its secret: 32 hexadecimal digits.
    pub secret: Zeroizing<String>,
}

/// A new access token: the only time that it is shown.
#[derive(Debug)]
pub struct AccessToken {
    /// The token: 64 hexadecimal digits.
    pub token: Zeroizing<String>,
    /// Seconds until it ends.
    pub seconds: i64,
}

impl Identity {
    /// Makes a service account.
    pub async fn create_client(&self, account: &AccountId, text: ClientText, by: &Actor) -> Result<NewClient, Error> {
        check(&text)?;
        let secret = random::hex::<16>()?;
        let row = db::oauth2::Client {
            id: random::hex::<8>()?.to_string(),
            account: account.clone(),
            callback_urls: to_json(&text.callback_urls)?,
            name: text.name,
            description: text.description,
            created: crate::now(),
            last_use: None,
        };
        let mut tx = self.db.begin().await?;
        if db::oauth2::count(&mut tx, account).await? >= MOST_CLIENTS {
            return Err(Error::TooMany { what: "service accounts of an account", limit: MOST_CLIENTS as usize });
        }
        db::oauth2::insert(&mut tx, &row, &random::sha256(&secret))
            .await
            .map_err(|fault| dangling(fault, "account", account.as_str()))?;
        self.audit.record_in(&mut tx, &entry(by, "account.serviceAccount.created", account, &row.id)).await?;
        tx.commit().await?;
        Ok(NewClient { client: self.read_client(row)?, secret })
    }

    /// The service accounts of an account, or all, oldest first.
    pub async fn clients(&self, of: Option<&AccountId>) -> Result<Vec<Client>, Error> {
        let rows = db::oauth2::list(&self.db, of).await?;
        rows.into_iter().map(|row| self.read_client(row)).collect()
    }

    /// A service account of an account.
    pub async fn client(&self, account: &AccountId, id: &str) -> Result<Option<Client>, Error> {
        let found = db::oauth2::find(&self.db, id).await?.filter(|(row, _)| row.account == *account);
        found.map(|(row, _)| self.read_client(row)).transpose()
    }

    /// Changes a service account; its tokens stay good.
    pub async fn change_client(
        &self,
        account: &AccountId,
        id: &str,
        text: ClientText,
        by: &Actor,
    ) -> Result<(), Error> {
        check(&text)?;
        let mut tx = self.db.begin().await?;
        let (row, _) = db::oauth2::find(&self.db, id)
            .await?
            .filter(|(row, _)| row.account == *account)
            .ok_or_else(|| no_client(id))?;
        let callback_urls = to_json(&text.callback_urls)?;
        let row = db::oauth2::Client { name: text.name, description: text.description, callback_urls, ..row };
        db::oauth2::update(&mut tx, &row).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.serviceAccount.changed", account, id)).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a service account with its tokens.
    pub async fn delete_client(&self, account: &AccountId, id: &str, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::oauth2::delete(&mut tx, account, id).await? {
            return Err(no_client(id));
        }
        self.audit.record_in(&mut tx, &entry(by, "account.serviceAccount.deleted", account, id)).await?;
        Ok(tx.commit().await?)
    }

    /// Gives a service account a token for its secret, good for an hour; `None` if the two do not belong together, or
    /// it may not log in from that address. The audit log tells which.
    pub async fn issue_token(
        &self,
        id: &str,
        secret: &str,
        from: Option<IpAddr>,
    ) -> Result<Option<AccessToken>, Error> {
        let (client, right) = match db::oauth2::find(&self.db, id).await? {
            Some((client, hash)) => (Some(client), hash),
            None => (None, vec![0; 32]),
        };
        // Compared with something in any case, and each refusal recorded, so that no time tells which ids there are, or that
        // a secret is right.
        let right = crypto::equal(&right, &random::sha256(secret));
        let (client, why) = match client {
            None => (None, "there is no such service account"),
            Some(client) if !right => (Some(client), "the secret is wrong"),
            Some(client) if !self.reached_from(&client.account, from).await? => {
                (Some(client), "the account does not let that address in")
            }
            Some(client) => return self.give_token(client, from).await,
        };
        self.audit.record(failed(client.as_ref(), from, why)).await?;
        Ok(None)
    }

    /// A token of a service account whose secret was right; `None` if it was removed since.
    async fn give_token(&self, client: db::oauth2::Client, from: Option<IpAddr>) -> Result<Option<AccessToken>, Error> {
        let token = random::hex::<32>()?;
        let now = crate::now();
        let row = db::oauth2::Token {
            hash: random::sha256(&token),
            client: client.id.clone(),
            created: now,
            expires: now + GOOD_FOR,
            last_use: None,
        };
        let by = Actor {
            account: Some(client.account.clone()),
            identity: client_identity(&client.id),
            source_ip: from,
            request_id: None,
        };
        let mut tx = self.db.begin().await?;
        db::oauth2::delete_oldest_tokens(&mut tx, &client.id, MOST_TOKENS - 1).await?;
        match db::oauth2::insert_token(&mut tx, &row).await {
            Ok(()) => {}
            // Removed since its secret was checked.
            Err(fault) if fault.is_dangling() => return Ok(None),
            Err(fault) => return Err(fault.into()),
        }
        self.audit
            .record_in(&mut tx, &entry(&by, "account.serviceAccount.loggedIn", &client.account, &client.id))
            .await?;
        tx.commit().await?;
        self.uses.note_client(&client.id, now);
        Ok(Some(AccessToken { token, seconds: GOOD_FOR.as_secs() - 1 }))
    }

    /// Who sent this token.
    pub async fn authenticate_token(
        &self,
        token: &str,
        source_ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let hash = random::sha256(token);
        let found = db::oauth2::find_token(&self.db, &hash).await.map_err(Error::from)?;
        let (token, account) = found.filter(|(token, _)| token.expires > now).ok_or(Refusal::InvalidToken)?;
        let reached = self.reached_from(&account, source_ip).await?;
        let caller = Caller {
            account,
            who: Who::Client { id: token.client },
            proof: Proof::Token { hash: hash.clone() },
            rules: AccessRule::everything(),
            expiration: Some(token.expires),
            source_ip,
        };
        if !reached {
            return Err(Refusal::SourceIp { caller: Box::new(caller) });
        }
        self.uses.note_token(&hash, now);
        Ok(caller)
    }

    /// Ends a token by its hash; whether it was there.
    pub async fn revoke_token(&self, hash: &[u8], by: &Actor) -> Result<bool, Error> {
        let Some((token, account)) = db::oauth2::find_token(&self.db, hash).await? else { return Ok(false) };
        let mut tx = self.db.begin().await?;
        let there = db::oauth2::delete_token(&mut tx, hash).await?;
        self.audit
            .record_in(&mut tx, &entry(by, "account.serviceAccount.token.revoked", &account, &token.client))
            .await?;
        tx.commit().await?;
        Ok(there)
    }

    fn read_client(&self, row: db::oauth2::Client) -> Result<Client, Error> {
        Ok(Client {
            last_use: row.last_use.max(self.uses.of_client(&row.id)),
            id: row.id,
            account: row.account,
            name: row.name,
            description: row.description,
            callback_urls: serde_json::from_str(&row.callback_urls)
                .map_err(|_| Error::Damaged { what: "callback URLs of a service account" })?,
            created: row.created,
        })
    }
}

/// The URN of a service account.
pub fn client_urn(account: &AccountId, id: &str) -> String {
    Urn::credential(account, id).to_string()
}

/// A service account as the audit log names it.
pub(crate) fn client_identity(id: &str) -> String {
    format!("oauth2/{id}")
}

/// What a token is called where it is listed: the first 16 hexadecimal digits of its hash.
pub(crate) fn token_id(hash: &[u8]) -> String {
    hex::encode(&hash[..hash.len().min(8)])
}

fn check(text: &ClientText) -> Result<(), Error> {
    let plain = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
    if text.name.trim().is_empty() || text.name.len() > 255 || !plain(&text.name) {
        return Err(Error::Invalid { field: "name", rule: "1 to 255 bytes, no control characters" });
    }
    if text.description.len() > 1024 || !plain(&text.description) {
        return Err(Error::Invalid { field: "description", rule: "at most 1024 bytes, no control characters" });
    }
    let good =
        |url: &String| url.len() <= 2048 && plain(url) && (url.starts_with("https://") || url.starts_with("http://"));
    if text.callback_urls.len() > 32 || !text.callback_urls.iter().all(good) {
        return Err(Error::Invalid { field: "callbackUrls", rule: "at most 32 URLs of http or https" });
    }
    Ok(())
}

fn entry(by: &Actor, action: &str, account: &AccountId, id: &str) -> Entry {
    Entry::new(by.clone(), action, format!("account/{account}/oauth2/{id}"))
}

/// What the audit log says of a refusal. An id that is no service account's may be anything, and is not in it.
fn failed(client: Option<&db::oauth2::Client>, from: Option<IpAddr>, why: &str) -> Entry {
    let by = Actor { account: client.map(|client| client.account.clone()), ..Actor::anonymous(from) };
    let action = "account.serviceAccount.loginFailed";
    let mut entry = match client {
        Some(client) => entry(&by, action, &client.account, &client.id),
        None => Entry::new(by, action, "oauth2"),
    };
    entry.decision = audit::Decision::Refused;
    "refused".clone_into(&mut entry.result);
    entry.detail = serde_json::json!({ "reason": why });
    entry
}

fn to_json(urls: &[String]) -> Result<String, Error> {
    serde_json::to_string(urls).map_err(|_| Error::Damaged { what: "callback URLs of a service account" })
}

fn no_client(id: &str) -> Error {
    Error::NotFound { kind: "clientId", id: id.chars().take(80).collect() }
}

const MOST_CLIENTS: i64 = 1000;
/// Tokens of a service account: a new one takes the place of the oldest.
const MOST_TOKENS: i64 = 1000;
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(1);
