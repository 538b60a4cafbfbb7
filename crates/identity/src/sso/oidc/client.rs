//! What is asked of a provider itself: its metadata (OpenID Connect Discovery 1.0), its keys (RFC 7517), and the ID token for
//! a code (RFC 6749, section 4.1.3). Metadata and keys are kept for some minutes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::jwk::Jwk;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::Fault;
use crate::sso::place::{Reach, is_loopback, place, whole};

/// Asks providers.
#[derive(Debug)]
pub(crate) struct Client {
    /// How far calls go.
    reach: Reach,
    /// How long one answer may take.
    patience: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    http: Option<reqwest::Client>,
    /// By issuer.
    providers: HashMap<String, Provider>,
    /// By issuer: why its metadata could not be had, and when that was.
    away: HashMap<String, (Fault, Instant)>,
    /// By issuer: whose turn it is to ask for its metadata.
    turns: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
}

/// What is known of a provider.
#[derive(Debug, Clone)]
struct Provider {
    metadata: Arc<Metadata>,
    read: Instant,
    keys: Option<KnownKeys>,
}

#[derive(Debug, Clone)]
struct KnownKeys {
    keys: Arc<Vec<Jwk>>,
    read: Instant,
    /// When they were last fetched because none of them was the one.
    missed: Option<Instant>,
}

/// Where a provider is asked what.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    /// Where a browser logs in.
    pub authorization: Url,
    /// Where a code becomes an ID token.
    pub token: Url,
    /// Where its keys are.
    pub keys: Url,
    /// How we prove who we are there.
    pub proof: ClientProof,
    /// Whether it names itself in each answer (RFC 9207).
    pub names_itself: bool,
}

/// How a client proves who it is (OpenID Connect Core 1.0, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientProof {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
}

/// What is given for an ID token.
pub(crate) struct Exchange<'a> {
    /// What we are called there.
    pub client_id: &'a str,
    /// Our secret there.
    pub secret: Option<&'a str>,
    /// The code.
    pub code: &'a str,
    /// By what the code is bound to us (RFC 7636).
    pub verifier: &'a str,
    /// Where the code was sent to.
    pub redirect: &'a str,
}

impl Default for Client {
    fn default() -> Client {
        Client::new(Reach::default())
    }
}

impl Client {
    /// Asks providers that are within this reach.
    pub fn new(reach: Reach) -> Client {
        Client::patient(reach, PATIENCE)
    }

    /// Waits so long for each answer.
    pub fn patient(reach: Reach, patience: Duration) -> Client {
        Client { reach, patience, known: Mutex::default() }
    }

    /// The metadata of a provider. Fetched anew if what is known is older than some minutes; a provider that failed is asked
    /// again after [`AWAY`], and by one at a time, so that it costs no more however many people want to log in.
    pub async fn metadata(&self, issuer: &str) -> Result<Arc<Metadata>, Fault> {
        if let Some(known) = self.known(issuer) {
            return known;
        }
        let turn = {
            let mut known = self.lock();
            make_room(&mut known.turns, issuer);
            Arc::clone(known.turns.entry(issuer.to_owned()).or_default())
        };
        let _turn = turn.lock().await;
        match self.known(issuer) {
            Some(known) => known,
            None => self.discover(issuer).await,
        }
    }

    /// What is known of a provider, or why nothing is.
    fn known(&self, issuer: &str) -> Option<Result<Arc<Metadata>, Fault>> {
        let known = self.lock();
        let metadata = known.providers.get(issuer).filter(|provider| provider.read.elapsed() < KEPT);
        let away = known.away.get(issuer).filter(|(_, at)| at.elapsed() < AWAY);
        let metadata = metadata.map(|provider| Ok(Arc::clone(&provider.metadata)));
        metadata.or_else(|| away.map(|(fault, _)| Err(fault.clone())))
    }

    /// The metadata of a provider as it is now. Keys that are known of it are forgotten.
    pub async fn discover(&self, issuer: &str) -> Result<Arc<Metadata>, Fault> {
        let found = self.ask(issuer).await;
        let mut known = self.lock();
        match &found {
            Ok(metadata) => {
                known.away.remove(issuer);
                make_room(&mut known.providers, issuer);
                let provider = Provider { metadata: Arc::clone(metadata), read: Instant::now(), keys: None };
                known.providers.insert(issuer.to_owned(), provider);
            }
            Err(fault) => {
                make_room(&mut known.away, issuer);
                known.away.insert(issuer.to_owned(), (fault.clone(), Instant::now()));
            }
        }
        found
    }

    async fn ask(&self, issuer: &str) -> Result<Arc<Metadata>, Fault> {
        let base = self.reach.place(issuer, true).filter(|url| url.query().is_none()).ok_or(Fault::Issuer)?;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let read: Discovered = self.get(METADATA, &url).await?;
        Ok(Arc::new(read.checked(issuer, self.reach, is_loopback(&base) && base.scheme() == "http")?))
    }

    /// The keys of a provider. Those that are known will do if one of them `suits` and they are not too old. If none does,
    /// they are fetched anew, but only once in [`KEYS_PAUSE`].
    pub async fn keys(
        &self,
        issuer: &str,
        metadata: &Metadata,
        suits: impl Fn(&Jwk) -> bool,
    ) -> Result<Arc<Vec<Jwk>>, Fault> {
        let known = self.lock().providers.get(issuer).and_then(|known| known.keys.clone());
        let mut missed = known.as_ref().and_then(|known| known.missed);
        if let Some(known) = known.filter(|known| known.read.elapsed() < KEPT) {
            let is_missing = !known.keys.iter().any(suits);
            if !is_missing || missed.is_some_and(|at| at.elapsed() < KEYS_PAUSE) {
                return Ok(known.keys);
            }
            missed = Some(Instant::now());
        }
        let set: KeySet = self.get(KEYS, metadata.keys.as_str()).await?;
        if set.keys.len() > MOST_KEYS {
            return Err(Fault::Shape(KEYS, "there are more than 100"));
        }
        // One of a kind that is not known here does not spoil the others (RFC 7517, section 5).
        let keys: Vec<Jwk> = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
        let keys = Arc::new(keys);
        if let Some(known) = self.lock().providers.get_mut(issuer) {
            known.keys = Some(KnownKeys { keys: Arc::clone(&keys), read: Instant::now(), missed });
        }
        Ok(keys)
    }

    /// The ID token for a code.
    pub async fn id_token(&self, metadata: &Metadata, given: &Exchange<'_>) -> Result<String, Fault> {
        let mut request = self.http()?.post(metadata.token.clone());
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", given.code),
            ("redirect_uri", given.redirect),
            ("code_verifier", given.verifier),
        ];
        match (given.secret, metadata.proof) {
            (Some(secret), ClientProof::Basic) => {
                // Both are form-encoded first: <https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1>.
                let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encode(given.client_id), encode(secret));
                request = request.header("authorization", format!("Basic {}", STANDARD.encode(pair)));
            }
            (Some(secret), ClientProof::Post) => {
                fields.extend([("client_id", given.client_id), ("client_secret", secret)]);
            }
            (None, _) => fields.push(("client_id", given.client_id)),
        }
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish());
        let (status, bytes) = self.whole(TOKEN, request).await?;
        let answer: Answered = serde_json::from_slice(&bytes).map_err(|_| Fault::Shape(TOKEN, "it is not JSON"))?;
        match (status, answer.id_token, answer.error) {
            (200, Some(token), None) => Ok(token),
            (200, None, None) => {
                Err(Fault::Shape(TOKEN, "there is no ID token; the scope 'openid' may not be allowed for the client"))
            }
            (status, _, error) => Err(Fault::Code(error.map_or_else(|| format!("status {status}"), word))),
        }
    }

    async fn get<T: DeserializeOwned>(&self, what: &'static str, url: &str) -> Result<T, Fault> {
        let request = self.http()?.get(url).header("accept", "application/json");
        let (status, bytes) = self.whole(what, request).await?;
        if status != 200 {
            tracing::warn!(what, status, "an identity provider did not give what it should have");
            return Err(Fault::Away(what));
        }
        serde_json::from_slice(&bytes).map_err(|_| Fault::Shape(what, "a member is missing, or it is not JSON"))
    }

    async fn whole(&self, what: &'static str, request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), Fault> {
        whole(request, LONGEST).await.map_err(|cause| {
            tracing::warn!(what, cause = model::chain(&cause), "an identity provider did not answer as it should have");
            Fault::Away(what)
        })
    }

    fn http(&self) -> Result<reqwest::Client, Fault> {
        let mut known = self.lock();
        if let Some(http) = &known.http {
            return Ok(http.clone());
        }
        let http = self.reach.caller(self.patience).map_err(|cause| {
            tracing::error!(%cause, "identity providers cannot be called");
            Fault::Away(METADATA)
        })?;
        known.http = Some(http.clone());
        Ok(http)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The members of the metadata that are of use (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Discovered {
    /// `is_loopback_good`: the issuer itself is reached by http on this machine. Another one does not send this service to
    /// what listens there.
    fn checked(self, issuer: &str, reach: Reach, is_loopback_good: bool) -> Result<Metadata, Fault> {
        if self.issuer != issuer {
            return Err(Fault::OtherIssuer(self.issuer.chars().take(200).collect()));
        }
        let wrong =
            Fault::Shape(METADATA, "an address in it is not one that this service may call or send a browser to");
        let called = |text: &str| reach.place(text, is_loopback_good).ok_or_else(|| wrong.clone());
        let has = |list: &Option<Vec<String>>, word: &str| {
            list.as_ref().is_some_and(|list| list.iter().any(|one| one == word))
        };
        if self.code_challenge_methods_supported.is_some() && !has(&self.code_challenge_methods_supported, "S256") {
            return Err(Fault::Shape(METADATA, "PKCE with S256 is not among what is supported"));
        }
        let methods = &self.token_endpoint_auth_methods_supported;
        let proof = match (has(methods, "client_secret_basic"), has(methods, "client_secret_post")) {
            (false, true) => ClientProof::Post,
            // What is the default where nothing is said.
            _ => ClientProof::Basic,
        };
        Ok(Metadata {
            authorization: place(&self.authorization_endpoint, is_loopback_good).ok_or_else(|| wrong.clone())?,
            token: called(&self.token_endpoint)?,
            keys: called(&self.jwks_uri)?,
            proof,
            names_itself: self.authorization_response_iss_parameter_supported,
        })
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Answered {
    id_token: Option<String>,
    error: Option<String>,
}

/// A code of an error as others wrote it: what is not a letter is left out.
pub(crate) fn word(text: impl AsRef<str>) -> String {
    let letters = text.as_ref().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    letters.take(64).collect()
}

/// Forgets all before more than [`MOST_KNOWN`] are known.
fn make_room<T>(of: &mut HashMap<String, T>, issuer: &str) {
    if of.len() >= MOST_KNOWN && !of.contains_key(issuer) {
        of.clear();
    }
}

const METADATA: &str = "the metadata";
const KEYS: &str = "the key set";
const TOKEN: &str = "the answer of the token endpoint";
/// How long what was read of a provider is used.
const KEPT: Duration = Duration::from_secs(600);
/// So long a provider that failed is not asked for its metadata again.
const AWAY: Duration = Duration::from_secs(10);
/// So often keys are fetched at most: a token of a key that nobody knows costs no more than that.
const KEYS_PAUSE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 1024 * 1024;
const MOST_KEYS: usize = 100;
const MOST_KNOWN: usize = 1000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A provider that is away for the first `faults` requests; its issuer, and how often it was asked.
    async fn provider(faults: usize) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, own) = (Arc::new(AtomicUsize::new(0)), issuer.clone());
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let body = serde_json::json!({
                    "issuer": own, "authorization_endpoint": own, "token_endpoint": own, "jwks_uri": own,
                })
                .to_string();
                let status = if count.fetch_add(1, Ordering::SeqCst) < faults { "503 Away" } else { "200 OK" };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (issuer, asked)
    }

    async fn by_many(client: &Arc<Client>, issuer: &str) -> Vec<bool> {
        let ask = |_| {
            let (client, issuer) = (Arc::clone(client), issuer.to_owned());
            tokio::spawn(async move { client.metadata(&issuer).await.is_ok() })
        };
        let asking: Vec<_> = (0..20).map(ask).collect();
        let mut answers = Vec::new();
        for one in asking {
            answers.push(one.await.expect("an answer"));
        }
        answers
    }

    #[tokio::test]
    async fn a_provider_is_asked_once_however_many_want_to_log_in_and_one_that_failed_not_again_at_once() {
        let client = Arc::new(Client::new(Reach::Everywhere));
        let (issuer, asked) = provider(1).await;
        assert_eq!(by_many(&client, &issuer).await, [false; 20]);
        assert_eq!(by_many(&client, &issuer).await, [false; 20]);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "it is away for all of them");
        for (_, at) in client.lock().away.values_mut() {
            *at = at.checked_sub(AWAY).expect("a time before");
        }
        assert_eq!(by_many(&client, &issuer).await, [true; 20]);
        assert_eq!(by_many(&client, &issuer).await, [true; 20]);
        assert_eq!(asked.load(Ordering::SeqCst), 2, "one of them asked for all");
        // Who names the provider in the settings hears of it as it is now.
        let (issuer, asked) = provider(1).await;
        assert!(client.discover(&issuer).await.is_err());
        assert!(client.discover(&issuer).await.is_ok() && client.metadata(&issuer).await.is_ok());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
