//! What browsers and authenticators say, and whether it holds: the checks of WebAuthn Level 3, sections 7.1 and 7.2
//! (<https://www.w3.org/TR/webauthn-3/>). Pure: knows neither the database nor the time. Attestation is not asked for, and
//! what is sent of it is not looked at.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ciborium::Value;
use crypto::PublicKey;
use db::webauthn::StoredCredential;
use serde::Deserialize;
use url::{Host, Url};

/// Who asks: what keys are made for, and the pages that may ask for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    id: String,
    origins: Vec<String>,
}

impl RelyingParty {
    /// By the public addresses of the service: the first whose pages browsers allow it names the host that keys are made
    /// for, and all with that host may ask. Browsers want a name and HTTPS; on a loopback address, `localhost` stands for
    /// it. `None` if no address will do.
    pub fn of(public_urls: &[String]) -> Option<RelyingParty> {
        let mut usable = public_urls.iter().filter_map(|url| usable(url));
        let (id, first) = usable.next()?;
        let mut origins = vec![first];
        origins.extend(usable.filter(|(host, _)| *host == id).map(|(_, origin)| origin));
        Some(RelyingParty { id, origins })
    }

    /// The host that keys are made for.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Host and origin of an address whose pages may ask for keys.
fn usable(url: &str) -> Option<(String, String)> {
    let mut url = Url::parse(url).ok()?;
    let is_loopback = match url.host()? {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(_) => false,
    };
    if is_loopback {
        url.set_host(Some("localhost")).ok()?;
    }
    let Some(Host::Domain(host)) = url.host() else { return None };
    let host = host.to_owned();
    let is_secure = url.scheme() == "https" || url.scheme() == "http" && host == "localhost";
    is_secure.then(|| (host, url.origin().ascii_serialization()))
}

/// Why an answer of an authenticator does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says it in its message")]
pub enum KeyFault {
    #[error("what the security key sent cannot be read")]
    Unreadable,
    #[error("the security key answered another kind of question")]
    Kind,
    #[error("the challenge was answered before, is older than five minutes, or was made for something else")]
    Challenge,
    #[error("the page that asked the security key is not one of this service")]
    Origin,
    #[error("the security key answered for another service")]
    RelyingParty,
    #[error("nobody touched the security key")]
    Presence,
    #[error("the security key did not verify its user by a PIN or the like")]
    Verification,
    #[error("what the security key says of its backup contradicts itself or what it said before")]
    Backup,
    #[error("the algorithm is not ES256, EdDSA or RS256")]
    Algorithm,
    #[error("the security key is not one of this user that is enabled")]
    Unknown,
    #[error("the signature of the security key is wrong")]
    Signature,
    #[error("the counter of the security key did not go on: there may be a copy of it")]
    Counter,
}

/// An authenticator's answer that makes a key.
#[derive(Debug, Clone)]
pub struct Attestation {
    raw_id: Vec<u8>,
    client_data: Vec<u8>,
    object: Vec<u8>,
}

impl Attestation {
    /// From what a browser gives, each in Base64, with the alphabet of URLs or the other, padded or not.
    pub fn new(raw_id: &str, client_data: &str, attestation_object: &str) -> Result<Attestation, KeyFault> {
        Ok(Attestation { raw_id: bytes(raw_id)?, client_data: bytes(client_data)?, object: bytes(attestation_object)? })
    }

    pub(crate) fn client(&self) -> Result<ClientData, KeyFault> {
        ClientData::read(&self.client_data)
    }

    /// The key that was made, if all holds; that its challenge does, the caller has found.
    pub(crate) fn check(&self, party: &RelyingParty) -> Result<StoredCredential, KeyFault> {
        self.client()?.check("webauthn.create", party)?;
        let object: Value = read_cbor(&mut self.object.as_slice())?;
        let data =
            Authenticator::read(entry(&object, "authData").and_then(Value::as_bytes).ok_or(KeyFault::Unreadable)?)?;
        data.check(party, false)?;
        let (id, public_key) = data.attested.ok_or(KeyFault::Unreadable)?;
        if id != self.raw_id || id.is_empty() || id.len() > LONGEST_ID {
            return Err(KeyFault::Unreadable);
        }
        cose_key(&public_key)?;
        let backup_eligible = data.flags & BACKUP_ELIGIBLE != 0;
        Ok(StoredCredential { id, public_key, backup_eligible, sign_count: data.sign_count })
    }
}

/// An authenticator's answer by which a key proves itself.
#[derive(Debug, Clone)]
pub struct Assertion {
    pub(crate) credential: Vec<u8>,
    pub(crate) user_handle: Option<Vec<u8>>,
    client_data: Vec<u8>,
    authenticator_data: Vec<u8>,
    signature: Vec<u8>,
}

impl Assertion {
    /// From the JSON that `PublicKeyCredential.toJSON()` makes (WebAuthn Level 3, section 5.1, `AuthenticationResponseJSON`).
    pub fn parse(json: &str) -> Result<Assertion, KeyFault> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            raw_id: String,
            response: Response,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Response {
            #[serde(rename = "clientDataJSON")]
            client_data: String,
            authenticator_data: String,
            signature: String,
            #[serde(default)]
            user_handle: Option<String>,
        }
        if json.len() > LONGEST_TEXT {
            return Err(KeyFault::Unreadable);
        }
        let Answer { raw_id, response } = serde_json::from_str(json).map_err(|_| KeyFault::Unreadable)?;
        Ok(Assertion {
            credential: bytes(&raw_id)?,
            user_handle: response.user_handle.as_deref().map(bytes).transpose()?,
            client_data: bytes(&response.client_data)?,
            authenticator_data: bytes(&response.authenticator_data)?,
            signature: bytes(&response.signature)?,
        })
    }

    pub(crate) fn client(&self) -> Result<ClientData, KeyFault> {
        ClientData::read(&self.client_data)
    }

    /// The new counter of the key that this is about, if all holds; that its challenge and its user do, the caller has
    /// found. With `verify`, the key must have verified its user.
    pub(crate) fn check(&self, party: &RelyingParty, key: &StoredCredential, verify: bool) -> Result<u32, KeyFault> {
        self.client()?.check("webauthn.get", party)?;
        let data = Authenticator::read(&self.authenticator_data)?;
        data.check(party, verify)?;
        if (data.flags & BACKUP_ELIGIBLE != 0) != key.backup_eligible {
            return Err(KeyFault::Backup);
        }
        let signed = [&self.authenticator_data[..], &crypto::digest::sha256(&[&self.client_data])].concat();
        if !cose_key(&key.public_key)?.verify(&signed, &self.signature) {
            return Err(KeyFault::Signature);
        }
        let counts = data.sign_count != 0 || key.sign_count != 0;
        if counts && data.sign_count <= key.sign_count {
            return Err(KeyFault::Counter);
        }
        Ok(data.sign_count)
    }
}

/// What the browser says of the question (WebAuthn Level 3, section 5.8.1).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
}

impl ClientData {
    fn read(json: &[u8]) -> Result<ClientData, KeyFault> {
        serde_json::from_slice(json).map_err(|_| KeyFault::Unreadable)
    }

    /// What it answers.
    pub(crate) fn challenge(&self) -> Result<Vec<u8>, KeyFault> {
        bytes(&self.challenge)
    }

    fn check(&self, kind: &str, party: &RelyingParty) -> Result<(), KeyFault> {
        if self.kind != kind {
            return Err(KeyFault::Kind);
        }
        // A page of ours in a frame of another's is that other's.
        match self.cross_origin || !party.origins.contains(&self.origin) {
            true => Err(KeyFault::Origin),
            false => Ok(()),
        }
    }
}

/// Authenticator data (WebAuthn Level 3, section 6.1).
struct Authenticator {
    party_hash: [u8; 32],
    flags: u8,
    sign_count: u32,
    /// Id and public key, where it made a key.
    attested: Option<(Vec<u8>, Vec<u8>)>,
}

impl Authenticator {
    fn read(mut rest: &[u8]) -> Result<Authenticator, KeyFault> {
        let party_hash = *take::<32>(&mut rest)?;
        let [flags] = *take::<1>(&mut rest)?;
        let sign_count = u32::from_be_bytes(*take::<4>(&mut rest)?);
        let mut attested = None;
        if flags & ATTESTED != 0 {
            take::<16>(&mut rest)?;
            let length = usize::from(u16::from_be_bytes(*take::<2>(&mut rest)?));
            let (id, after) = rest.split_at_checked(length).ok_or(KeyFault::Unreadable)?;
            rest = after;
            read_cbor(&mut rest)?;
            let public_key = &after[..after.len() - rest.len()];
            attested = Some((id.to_owned(), public_key.to_owned()));
        }
        if flags & EXTENDED != 0 {
            read_cbor(&mut rest)?;
        }
        match rest.is_empty() {
            true => Ok(Authenticator { party_hash, flags, sign_count, attested }),
            false => Err(KeyFault::Unreadable),
        }
    }

    fn check(&self, party: &RelyingParty, verify: bool) -> Result<(), KeyFault> {
        if self.party_hash != crypto::digest::sha256(&[party.id.as_bytes()]) {
            return Err(KeyFault::RelyingParty);
        }
        if self.flags & PRESENT == 0 {
            return Err(KeyFault::Presence);
        }
        if verify && self.flags & VERIFIED == 0 {
            return Err(KeyFault::Verification);
        }
        match self.flags & (BACKUP_ELIGIBLE | BACKED_UP) {
            BACKED_UP => Err(KeyFault::Backup),
            _ => Ok(()),
        }
    }
}

/// A COSE_Key (RFC 9052, section 7; RFC 9053, section 7; RFC 8230, section 4).
fn cose_key(mut key: &[u8]) -> Result<PublicKey, KeyFault> {
    let key = read_cbor(&mut key)?;
    let number = |label: i64| numbered(&key, label).and_then(Value::as_integer).and_then(|n| i64::try_from(n).ok());
    let bytes = |label: i64| numbered(&key, label).and_then(Value::as_bytes);
    let coordinate = |label: i64| bytes(label).and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    let found = match (number(1), number(3)) {
        (Some(2), Some(-7)) if number(-1) == Some(1) => {
            coordinate(-2).zip(coordinate(-3)).map(|(x, y)| PublicKey::Es256 { x, y })
        }
        (Some(1), Some(-8)) if number(-1) == Some(6) => coordinate(-2).map(PublicKey::Ed25519),
        (Some(3), Some(-257)) => bytes(-1).zip(bytes(-2)).map(|(n, e)| PublicKey::Rs256 { n: n.clone(), e: e.clone() }),
        _ => return Err(KeyFault::Algorithm),
    };
    found.ok_or(KeyFault::Unreadable)
}

/// Reads one item, and leaves what is after it.
fn read_cbor(rest: &mut &[u8]) -> Result<Value, KeyFault> {
    ciborium::de::from_reader_with_recursion_limit(rest, DEEPEST).map_err(|_| KeyFault::Unreadable)
}

fn entry<'v>(map: &'v Value, name: &str) -> Option<&'v Value> {
    only(map, |key| key.as_text() == Some(name))
}

fn numbered(map: &Value, label: i64) -> Option<&Value> {
    only(map, |key| key.as_integer() == Some(label.into()))
}

/// The value of a key that is there once: of two, readers could take different ones.
fn only(map: &Value, is: impl Fn(&Value) -> bool) -> Option<&Value> {
    let mut found = map.as_map()?.iter().filter(|(key, _)| is(key));
    found.next().filter(|_| found.next().is_none()).map(|(_, value)| value)
}

fn take<'b, const N: usize>(rest: &mut &'b [u8]) -> Result<&'b [u8; N], KeyFault> {
    let (first, after) = rest.split_first_chunk().ok_or(KeyFault::Unreadable)?;
    *rest = after;
    Ok(first)
}

fn bytes(text: &str) -> Result<Vec<u8>, KeyFault> {
    if text.len() > LONGEST_TEXT {
        return Err(KeyFault::Unreadable);
    }
    let text: String = text
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    BASE64.decode(text).map_err(|_| KeyFault::Unreadable)
}

/// Bytes as WebAuthn's JSON has them: Base64 with the alphabet of URLs, not padded.
pub(crate) fn text(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const PRESENT: u8 = 1;
const VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;
const EXTENDED: u8 = 1 << 7;
/// Bytes of an id (WebAuthn Level 3, section 7.1, step 25).
const LONGEST_ID: usize = 1023;
const LONGEST_TEXT: usize = 16 * 1024;
const DEEPEST: usize = 8;
