//! Whether an ID token is to be believed (OpenID Connect Core 1.0, section 3.1.3.7), and what it says.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Fault;
use crate::{random, sso::Assertion};

/// What an ID token is held against.
pub(crate) struct Expected<'a> {
    /// Who made it.
    pub issuer: &'a str,
    /// For whom it was made.
    pub client_id: &'a str,
    /// SHA-256 of the nonce of the log-in that it answers.
    pub nonce_hash: &'a [u8],
    /// The claim that names a person.
    pub user_claim: &'a str,
    /// The claim that names the groups of a person.
    pub group_claim: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// Which key signed a token, and how, by what the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedBy {
    algorithm: Algorithm,
    key: Option<String>,
}

impl SignedBy {
    /// Reads the header of a token. Only algorithms with a public key are taken: `none` signs nothing, and with those of a
    /// common secret (HS256) everybody who has the public key could sign.
    pub fn read(token: &str) -> Result<SignedBy, Fault> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: Option<String>,
            crit: Option<Value>,
        }
        if token.len() > LONGEST {
            return Err(Fault::Token("it is longer than 64 KiB"));
        }
        let unreadable = Fault::Token("its header cannot be read");
        let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let header = header.and_then(|bytes| serde_json::from_slice::<Header>(&bytes).ok()).ok_or(unreadable)?;
        if header.crit.is_some() {
            // <https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11>
            return Err(Fault::Token("its header has extensions that must be understood"));
        }
        let algorithm = header.alg.parse::<Algorithm>().ok().filter(|algorithm| ALGORITHMS.contains(algorithm));
        let algorithm = algorithm.ok_or(Fault::Token(
            "it is signed by another algorithm than RS, PS or ES with SHA-256 or more, or EdDSA",
        ))?;
        Ok(SignedBy { algorithm, key: header.kid })
    }

    /// Whether a key may be the one.
    pub fn suits(&self, key: &Jwk) -> bool {
        let common = &key.common;
        let is_kind = match (&key.algorithm, self.algorithm) {
            (AlgorithmParameters::RSA(_), algorithm) => RSA.contains(&algorithm),
            (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
            (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => key.curve == EllipticCurve::P384,
            (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
            _ => false,
        };
        let is_for_signatures = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
        let is_for_algorithm = common.key_algorithm;
        let is_for_algorithm =
            is_for_algorithm.is_none_or(|of| of.to_string().parse().is_ok_and(|of: Algorithm| of == self.algorithm));
        let is_named = self.key.is_none() || self.key == common.key_id;
        is_kind && is_for_signatures && is_for_algorithm && is_named
    }
}

/// What a token says of a person, if it is signed by one of the keys and is for this log-in.
pub(crate) fn read(token: &str, by: &SignedBy, keys: &[Jwk], expected: &Expected<'_>) -> Result<Assertion, Fault> {
    let mut suitable = keys.iter().filter(|key| by.suits(key));
    let (key, others) = (suitable.next(), suitable.next());
    let Some(key) = key else {
        return Err(Fault::Token("it is signed by a key that the provider does not show"));
    };
    if others.is_some() {
        return Err(Fault::Token("it does not say by which of the keys it is signed"));
    }
    let key = DecodingKey::from_jwk(key).map_err(|_| Fault::Token("the key that signed it cannot be read"))?;
    // Here the signature alone: claims are held below against a time and a log-in that the library does not know.
    let mut signature = Validation::new(by.algorithm);
    signature.required_spec_claims.clear();
    (signature.validate_exp, signature.validate_aud) = (false, false);
    let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &signature);
    let claims = claims.map_err(|_| Fault::Token("its signature is not right"))?.claims;
    check(&claims, expected)?;
    let name = text(&claims, expected.user_claim).filter(|name| is_name(name));
    let name = name.ok_or_else(|| Fault::Claim {
        claim: expected.user_claim.to_owned(),
        form: "a text of 1 to 256 bytes without control characters",
    })?;
    // The end of an ID token is that of its use as a proof, not that of a session (OpenID Connect Core 1.0, section 2).
    Ok(Assertion { name: name.to_owned(), groups: groups(&claims, expected.group_claim)?, until: None })
}

/// Whether the claims are of this provider, for us, for this log-in and for now.
fn check(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), Fault> {
    if text(claims, "iss") != Some(expected.issuer) {
        return Err(Fault::Token("it is of another issuer"));
    }
    let (is_for_us, of_several) = match claims.get("aud") {
        Some(Value::String(one)) => (one == expected.client_id, false),
        Some(Value::Array(list)) => (list.iter().any(|one| one == expected.client_id), list.len() > 1),
        _ => (false, false),
    };
    if !is_for_us {
        return Err(Fault::Token("it is for another client"));
    }
    match claims.get("azp") {
        None if of_several => {
            return Err(Fault::Token("it is for several clients, and does not say for which it was made"));
        }
        None => {}
        Some(party) if party == expected.client_id => {}
        Some(_) => return Err(Fault::Token("it was made for another client")),
    }
    let now = expected.now.as_second() as f64;
    let number = |name: &str| claims.get(name).and_then(Value::as_f64);
    match number("exp") {
        Some(end) if end > now - SKEW => {}
        Some(_) => return Err(Fault::Token("its time is over, or the clocks of provider and service differ")),
        None => return Err(Fault::Token("it does not say until when it is good")),
    }
    match number("iat") {
        Some(made) if made < now + SKEW => {}
        Some(_) => return Err(Fault::Token("it was made later than now: the clocks of provider and service differ")),
        None => return Err(Fault::Token("it does not say when it was made")),
    }
    let begins = claims.get("nbf").map_or(Some(0.0), Value::as_f64);
    if begins.is_none_or(|begins| begins >= now + SKEW) {
        return Err(Fault::Token("it is good later than now: the clocks of provider and service differ"));
    }
    // By their hashes: how far two of them agree tells nothing.
    if text(claims, "nonce").map(random::sha256).as_deref() != Some(expected.nonce_hash) {
        return Err(Fault::Token("it was not made for this log-in"));
    }
    if text(claims, "sub").is_none_or(str::is_empty) {
        return Err(Fault::Token("it does not say of whom it is"));
    }
    Ok(())
}

/// A list of names, or one name. Without the claim a person is in no group.
fn groups(claims: &Map<String, Value>, claim: &str) -> Result<Vec<String>, Fault> {
    let wrong = || Fault::Claim { claim: claim.to_owned(), form: "a text or a list of at most 1,000 texts" };
    match claims.get(claim) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(list)) if list.len() <= MOST_GROUPS => {
            list.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= 256 && !name.chars().any(char::is_control)
}

/// How far clocks may differ, in seconds.
const SKEW: f64 = 60.0;
const LONGEST: usize = 64 * 1024;
const MOST_GROUPS: usize = 1000;
const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
