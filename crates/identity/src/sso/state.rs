//! Log-ins that were begun: each is answered once, in the browser in which it was begun, within [`SSO_TIME`].

use std::net::IpAddr;

use db::sso::{Most, State};
use jiff::{SignedDuration, Timestamp};
use model::AccountId;
use zeroize::Zeroizing;

use super::{CONSOLE, ProviderKind};
use crate::{Error, Identity, passwords::source, random};

/// How long a log-in may take at the provider.
pub const SSO_TIME: SignedDuration = SignedDuration::from_mins(10);

impl Identity {
    /// Keeps a log-in that is begun, under a random `state` that comes back with the answer, with what the answer will be held
    /// against. What the browser's cookie has to hold: 64 hexadecimal digits.
    pub(crate) async fn keep_sso_state(
        &self,
        account: &AccountId,
        kind: ProviderKind,
        state: &str,
        data: &str,
        from: Option<IpAddr>,
    ) -> Result<Zeroizing<String>, Error> {
        let browser = random::hex::<32>()?;
        let now = crate::now();
        let row = State {
            account: account.clone(),
            kind: kind.as_str().to_owned(),
            sealed: self.seal_of_account(account, CONTEXT, data)?,
            source: source(from),
            expires: now + SSO_TIME,
        };
        let mut tx = self.db.begin().await?;
        let (state, secret) = (random::sha256(state), random::sha256(&browser));
        db::sso::insert_state(&mut tx, &state, &secret, &row, MOST, now).await?;
        tx.commit().await?;
        Ok(browser)
    }

    /// Uses up the log-in of that state, if it was begun in that browser at a provider of that kind and its time is not over
    /// at `now`: whose it is, and what was kept. Both secrets are compared by their hashes.
    pub(crate) async fn take_sso_state(
        &self,
        kind: ProviderKind,
        state: &str,
        browser: &str,
        now: Timestamp,
    ) -> Result<Option<(AccountId, Zeroizing<String>)>, Error> {
        let mut tx = self.db.begin().await?;
        let (state, browser) = (random::sha256(state), random::sha256(browser));
        let taken = db::sso::take_state(&mut tx, &state, &browser, kind.as_str(), now).await?;
        tx.commit().await?;
        let Some(taken) = taken else { return Ok(None) };
        let data = self.open_of_account(&taken.account, CONTEXT, &taken.sealed)?;
        Ok(Some((taken.account, data)))
    }
}

/// A path of the console, or its beginning if it is none. So plain that no browser reads it as an address elsewhere: no
/// second host, no way up, nothing encoded.
pub(crate) fn checked_path(path: &str) -> &str {
    let is_below = path.strip_prefix(CONSOLE).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let is_plain = path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '?' | '=' | '&'));
    let is_good = is_below && is_plain && path.len() <= LONGEST_PATH && !path.contains("//");
    if is_good { path } else { CONSOLE }
}

/// Why an answer is not taken for which no log-in waits.
pub(crate) const NOT_BEGUN: &str =
    "the log-in was not begun in this browser, was answered already, or took more than ten minutes";
const CONTEXT: &str = "sso.state";
const MOST: Most = Most { of_account: 1000, of_source: 50 };
const LONGEST_PATH: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_back_never_leaves_the_console() {
        for good in ["/console", "/console/jobs", "/console/projects/0a1b/jobs?page=2&size=5", "/console?x=1"] {
            assert_eq!(checked_path(good), good);
        }
        let long = format!("/console/{}", "a".repeat(600));
        for wrong in [
            "",
            "/",
            "console",
            "/consoles",
            "/consolex/../",
            "//evil.example/console",
            "/console//evil.example",
            "https://evil.example/console",
            "/\\evil.example",
            "/console/../api",
            "/console/%2e%2e/api",
            "/console/\r\nSet-Cookie: a=b",
            "/console/\u{2028}",
            "javascript:alert(1)",
            "/console@evil.example",
            "/console.evil.example",
            &long,
        ] {
            assert_eq!(checked_path(wrong), CONSOLE, "{wrong:?}");
        }
    }
}
