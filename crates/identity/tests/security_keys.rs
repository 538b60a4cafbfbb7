//! Security keys and passkeys over a real database, with an authenticator of this test: each thing that an answer is about
//! is altered, and then it holds no more.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use audit::{Actor, Audit, Query};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ciborium::Value as Cbor;
use db::Db;
use identity::{
    Assertion, Attestation, Error, Factor, FactorChange, Identity, KeyFault, KeyRequest, LogIn, LoggedIn, NewPerson,
    NewSecurityKey,
};
use keys::Keys;
use model::AccountId;
use serde_json::json;
use zeroize::Zeroizing;

const OWN: &str = "correct horse battery staple";
const ORIGIN: &str = "https://api.example.org";
const PARTY: &str = "api.example.org";

struct World {
    _dir: tempfile::TempDir,
    db: Db,
    identity: Identity,
    audit: Audit,
    account: AccountId,
    by: Actor,
    /// How many log-ins there were: each comes from another address, for wrong ones are counted by address.
    log_ins: AtomicU8,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let keys = Arc::new(Keys::open(&dir.path().join("keys")).expect("keys"));
        let audit = Audit::new(db.clone());
        let identity = Identity::new(db.clone(), audit.clone(), keys).with_public_urls(&[ORIGIN.to_owned()]);
        let (by, account) = (Actor::operator(), "ab1234-casemate".parse::<AccountId>().expect("an account"));
        identity.create_account(&account, "", "", &by).await.expect("an account");
        World { _dir: dir, db, identity, audit, account, by, log_ins: AtomicU8::new(0) }
    }

    async fn person(&self, login: &str) -> i64 {
        let new = NewPerson { login: login.to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
        self.identity.create_person(&self.account, new, &self.by).await.expect("a user").id
    }

    /// A user with a password of its own.
    async fn user(&self, login: &str) -> i64 {
        let id = self.person(login).await;
        let link = self.identity.create_setup(&self.account, login, &self.by).await.expect("a link");
        self.identity.use_setup(&link.token, Zeroizing::new(OWN.to_owned()), &self.by).await.expect("a password");
        id
    }

    /// A key of a user, which is enabled.
    async fn enabled(&self, person: i64, kind: Kind) -> Device {
        let begun = self.identity.create_security_key(person, &self.by).await.expect("begun");
        let mut device = Device::new(kind, &begun);
        device.number = begun.id;
        self.validate(person, begun.id, &device.register(&begun, &Altered::default())).await.expect("validated");
        device
    }

    async fn validate(&self, person: i64, id: i64, given: &Attestation) -> Result<(), Error> {
        self.identity.validate_security_key(person, id, given, here(), &self.by).await
    }

    async fn log_in(&self, login: &str, password: &str, code: &str, assertion: Option<&Assertion>) -> LoggedIn {
        let name = format!("{}/{login}", self.account);
        let from = Some(IpAddr::from([192, 0, 2, self.log_ins.fetch_add(1, Ordering::Relaxed)]));
        let given = LogIn {
            name: &name,
            password,
            code,
            enrolment: "",
            assertion,
            new_password: "",
            from,
            user_agent: "a browser",
        };
        self.identity.log_in(&given).await.expect("an answer")
    }

    /// What a user is asked for after the password.
    async fn wanted(&self, login: &str) -> KeyRequest {
        match self.log_in(login, OWN, "", None).await {
            LoggedIn::CodeWanted(Some(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    async fn by_passkey(&self, assertion: &Assertion) -> LoggedIn {
        self.identity.log_in_by_passkey(assertion, here(), "a browser").await.expect("an answer")
    }

    fn passkey_request(&self) -> KeyRequest {
        self.identity.passkey_request(here()).expect("a request")
    }

    async fn log(&self) -> String {
        let rows = self.audit.list(&Query { limit: 500, ..Query::default() }).await.expect("rows");
        rows.iter().map(|row| format!("{row:?}\n")).collect()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Es256,
    Ed25519,
    Rs256,
}

enum Pair {
    Es256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// An authenticator with one key.
struct Device {
    number: i64,
    id: Vec<u8>,
    handle: Vec<u8>,
    pair: Pair,
    count: u32,
}

/// What is not as it should be in an answer.
#[derive(Clone, Default)]
struct Altered {
    kind: Option<&'static str>,
    challenge: Option<String>,
    origin: Option<&'static str>,
    cross_origin: bool,
    party: Option<&'static str>,
    flags: Option<u8>,
    count: Option<u32>,
    handle: Option<Vec<u8>>,
    without_handle: bool,
    id: Option<Vec<u8>>,
    signature: bool,
    after: Vec<u8>,
    algorithm: Option<i64>,
}

impl Device {
    fn new(kind: Kind, begun: &NewSecurityKey) -> Device {
        let pair = match kind {
            Kind::Es256 => Pair::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key")),
            Kind::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().expect("a key")),
            Kind::Rs256 => Pair::Rs256(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")),
        };
        let mut id = vec![0; 32];
        crypto::random(&mut id).expect("random");
        Device { number: 0, id, handle: BASE64.decode(&begun.handle).expect("Base64"), pair, count: 1 }
    }

    fn cose(&self, algorithm: Option<i64>) -> Vec<u8> {
        let entries = match &self.pair {
            Pair::Es256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (Cbor::Bytes(point[1..33].to_vec()), Cbor::Bytes(point[33..].to_vec()));
                vec![(1, 2.into()), (3, algorithm.unwrap_or(-7).into()), (-1, 1.into()), (-2, x), (-3, y)]
            }
            Pair::Ed25519(pair) => {
                let x = Cbor::Bytes(pair.public_key().as_ref().to_vec());
                vec![(1, 1.into()), (3, algorithm.unwrap_or(-8).into()), (-1, 6.into()), (-2, x)]
            }
            Pair::Rs256(pair) => {
                let public = pair.public_key();
                let n = Cbor::Bytes(public.modulus().big_endian_without_leading_zero().to_vec());
                let e = Cbor::Bytes(public.exponent().big_endian_without_leading_zero().to_vec());
                vec![(1, 3.into()), (3, algorithm.unwrap_or(-257).into()), (-1, n), (-2, e)]
            }
        };
        bytes(&Cbor::Map(entries.into_iter().map(|(label, value): (i64, Cbor)| (label.into(), value)).collect()))
    }

    fn register(&self, begun: &NewSecurityKey, altered: &Altered) -> Attestation {
        let mut data = self.data(altered, 0b0100_0101);
        data.extend([0; 16]);
        data.extend((self.id.len() as u16).to_be_bytes());
        data.extend(&self.id);
        data.extend(self.cose(altered.algorithm));
        data.extend(&altered.after);
        let object = Cbor::Map(vec![
            (Cbor::Text("fmt".to_owned()), Cbor::Text("none".to_owned())),
            (Cbor::Text("attStmt".to_owned()), Cbor::Map(Vec::new())),
            (Cbor::Text("authData".to_owned()), Cbor::Bytes(data)),
        ]);
        let client = client("webauthn.create", &begun.challenge, altered);
        let id = altered.id.as_ref().unwrap_or(&self.id);
        Attestation::new(&BASE64.encode(id), &BASE64.encode(client), &BASE64.encode(bytes(&object))).expect("readable")
    }

    fn assert(&mut self, request: &KeyRequest, altered: &Altered) -> Assertion {
        self.count += 1;
        let mut data = self.data(altered, 0b0000_0101);
        data.extend(&altered.after);
        let client = client("webauthn.get", &request.challenge, altered);
        let signed = [&data[..], &crypto::digest::sha256(&[client.as_bytes()])].concat();
        let mut signature = match &self.pair {
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), &signed).expect("signed").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(&signed).as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &signed, &mut signature).expect("signed");
                signature
            }
        };
        if altered.signature {
            let last = signature.len() - 1;
            signature[last] ^= 1;
        }
        let handle = altered.handle.as_ref().unwrap_or(&self.handle);
        let handle = (!altered.without_handle).then(|| BASE64.encode(handle));
        let answer = json!({
            "id": "", "type": "public-key", "clientExtensionResults": {},
            "rawId": BASE64.encode(altered.id.as_ref().unwrap_or(&self.id)),
            "response": {
                "clientDataJSON": BASE64.encode(client),
                "authenticatorData": BASE64.encode(data),
                "signature": BASE64.encode(signature),
                "userHandle": handle,
            },
        });
        Assertion::parse(&answer.to_string()).expect("readable")
    }

    fn data(&self, altered: &Altered, flags: u8) -> Vec<u8> {
        let mut data = crypto::digest::sha256(&[altered.party.unwrap_or(PARTY).as_bytes()]).to_vec();
        data.push(altered.flags.unwrap_or(flags));
        data.extend(altered.count.unwrap_or(self.count).to_be_bytes());
        data
    }
}

fn client(kind: &str, challenge: &str, altered: &Altered) -> String {
    json!({
        "type": altered.kind.unwrap_or(kind),
        "challenge": altered.challenge.as_deref().unwrap_or(challenge),
        "origin": altered.origin.unwrap_or(ORIGIN),
        "crossOrigin": altered.cross_origin,
        "other_keys_can_be_added_here": "do not compare clientDataJSON against a template",
    })
    .to_string()
}

fn bytes(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("CBOR");
    bytes
}

fn here() -> Option<IpAddr> {
    Some("192.0.2.7".parse().expect("an address"))
}

#[tokio::test]
async fn a_key_goes_beside_the_password_and_a_passkey_in_its_place() {
    let world = World::new().await;
    for (login, kind) in [("alice", Kind::Es256), ("bob", Kind::Ed25519), ("carol", Kind::Rs256)] {
        let person = world.user(login).await;
        let mut device = world.enabled(person, kind).await;
        let request = world.wanted(login).await;
        assert_eq!(request.allowed, [BASE64.encode(&device.id)]);
        let answer = device.assert(&request, &Altered { without_handle: true, flags: Some(1), ..Altered::default() });
        let done = world.log_in(login, OWN, "", Some(&answer)).await;
        assert!(matches!(done, LoggedIn::Done { factor: Some(Factor::SecurityKey), .. }), "{done:?}");
        let replayed = world.log_in(login, OWN, "", Some(&answer)).await;
        assert!(matches!(replayed, LoggedIn::CodeWanted(Some(_))), "{replayed:?}");

        let request = world.passkey_request();
        assert!(request.allowed.is_empty() && request.verify);
        let answer = device.assert(&request, &Altered::default());
        match world.by_passkey(&answer).await {
            LoggedIn::Done { person, factor: Some(Factor::SecurityKey) } => assert_eq!(person.login, login),
            other => panic!("{other:?}"),
        }
        assert!(matches!(world.by_passkey(&answer).await, LoggedIn::Refused), "replayed");
        let info = world.identity.security_keys(person).await.expect("read");
        assert!(info.len() == 1 && info[0].last_use.is_some(), "{info:?}");
    }
    let log = world.log().await;
    assert!(log.contains("U2F") && log.contains("securityKey.enabled"), "{log}");
}

#[tokio::test]
async fn an_assertion_holds_only_as_it_was_made() {
    let world = World::new().await;
    let mut device = world.enabled(world.user("alice").await, Kind::Es256).await;
    let mut others = world.enabled(world.user("carol").await, Kind::Es256).await;
    let with = |change: &dyn Fn(&mut Altered)| {
        let mut altered = Altered::default();
        change(&mut altered);
        altered
    };
    let cases: Vec<(&str, KeyFault, Altered)> = vec![
        ("type", KeyFault::Kind, with(&|it| it.kind = Some("webauthn.create"))),
        ("challenge", KeyFault::Challenge, with(&|it| it.challenge = Some(BASE64.encode([7; 32])))),
        ("origin", KeyFault::Origin, with(&|it| it.origin = Some("https://evil.example"))),
        ("scheme", KeyFault::Origin, with(&|it| it.origin = Some("http://api.example.org"))),
        ("port", KeyFault::Origin, with(&|it| it.origin = Some("https://api.example.org:8443"))),
        ("subdomain", KeyFault::Origin, with(&|it| it.origin = Some("https://x.api.example.org"))),
        ("frame", KeyFault::Origin, with(&|it| it.cross_origin = true)),
        ("party", KeyFault::RelyingParty, with(&|it| it.party = Some("evil.example"))),
        ("absent", KeyFault::Presence, with(&|it| it.flags = Some(4))),
        ("backed up, not eligible", KeyFault::Backup, with(&|it| it.flags = Some(0b0001_0101))),
        ("eligible now", KeyFault::Backup, with(&|it| it.flags = Some(0b0000_1101))),
        ("counter back", KeyFault::Counter, with(&|it| it.count = Some(0))),
        ("counter stays", KeyFault::Counter, with(&|it| it.count = Some(1))),
        ("signature", KeyFault::Signature, with(&|it| it.signature = true)),
        ("more data", KeyFault::Unreadable, with(&|it| it.after = vec![0])),
        ("handle", KeyFault::Unknown, with(&|it| it.handle = Some(vec![7; 32]))),
        ("credential", KeyFault::Unknown, with(&|it| it.id = Some(vec![7; 32]))),
    ];
    // Tries are counted: so none is of a user who had ten.
    for (login, cases) in [("dora", &cases[..8]), ("emil", &cases[8..])] {
        let mut device = world.enabled(world.user(login).await, Kind::Es256).await;
        for (what, fault, altered) in cases {
            let answer = device.assert(&world.wanted(login).await, altered);
            let refused = world.log_in(login, OWN, "", Some(&answer)).await;
            assert!(matches!(refused, LoggedIn::CodeWanted(Some(_))), "{what}: {refused:?}");
            let newest = world.log().await.lines().next().expect("a row").to_owned();
            assert!(newest.contains(&fault.to_string()), "{what}: {newest}");
            // What was right all along still is.
            let answer = device.assert(&world.wanted(login).await, &Altered::default());
            let done = world.log_in(login, OWN, "", Some(&answer)).await;
            assert!(matches!(done, LoggedIn::Done { .. }), "{what}: {done:?}");
        }
    }
    // A passkey has to verify its user, and to say who that is.
    for altered in [with(&|it| it.flags = Some(1)), with(&|it| it.without_handle = true)] {
        let answer = device.assert(&world.passkey_request(), &altered);
        assert!(matches!(world.by_passkey(&answer).await, LoggedIn::Refused));
    }
    // A key of another user; a challenge of another purpose, or of another user.
    let answer = others.assert(&world.wanted("alice").await, &Altered::default());
    assert!(matches!(world.log_in("alice", OWN, "", Some(&answer)).await, LoggedIn::CodeWanted(_)));
    let answer = device.assert(&world.passkey_request(), &Altered::default());
    assert!(matches!(world.log_in("alice", OWN, "", Some(&answer)).await, LoggedIn::CodeWanted(_)));
    let answer = device.assert(&world.wanted("alice").await, &Altered::default());
    assert!(matches!(world.by_passkey(&answer).await, LoggedIn::Refused));
    let answer = device.assert(&world.wanted("carol").await, &Altered::default());
    assert!(matches!(world.log_in("alice", OWN, "", Some(&answer)).await, LoggedIn::CodeWanted(_)));
    // Without the password a key beside it is nothing, and no key is asked for.
    let answer = device.assert(&world.wanted("alice").await, &Altered::default());
    assert!(matches!(world.log_in("alice", "wrong", "", Some(&answer)).await, LoggedIn::Refused));
}

#[tokio::test]
async fn a_registration_holds_only_as_it_was_made() {
    let world = World::new().await;
    let cases: Vec<(KeyFault, Altered)> = vec![
        (KeyFault::Kind, Altered { kind: Some("webauthn.get"), ..Altered::default() }),
        (KeyFault::Challenge, Altered { challenge: Some(BASE64.encode([7; 32])), ..Altered::default() }),
        (KeyFault::Origin, Altered { origin: Some("https://evil.example"), ..Altered::default() }),
        (KeyFault::RelyingParty, Altered { party: Some("evil.example"), ..Altered::default() }),
        (KeyFault::Presence, Altered { flags: Some(0b0100_0100), ..Altered::default() }),
        (KeyFault::Unreadable, Altered { flags: Some(0b0000_0101), ..Altered::default() }),
        (KeyFault::Unreadable, Altered { after: vec![0], ..Altered::default() }),
        (KeyFault::Unreadable, Altered { id: Some(vec![7; 32]), ..Altered::default() }),
        (KeyFault::Algorithm, Altered { algorithm: Some(-37), ..Altered::default() }),
    ];
    for (at, (fault, altered)) in cases.into_iter().enumerate() {
        let person = world.person(&format!("person-{at}")).await;
        let begun = world.identity.create_security_key(person, &world.by).await.expect("begun");
        let device = Device::new(Kind::Es256, &begun);
        let made = world.validate(person, begun.id, &device.register(&begun, &altered)).await;
        assert!(matches!(&made, Err(Error::Key(found)) if *found == fault), "{fault:?}: {made:?}");
        // The challenge went with the first try.
        let again = world.validate(person, begun.id, &device.register(&begun, &Altered::default())).await;
        let is_left = fault == KeyFault::Challenge;
        assert!(is_left && again.is_ok() || matches!(again, Err(Error::Key(KeyFault::Challenge))), "{again:?}");
        let status = &world.identity.security_keys(person).await.expect("read")[0].status;
        assert_eq!(status, if is_left { "enabled" } else { "needCodeValidation" });
    }
    // Another's challenge, another's key, and one that is there already.
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (hers, his) = (
        world.identity.create_security_key(alice, &world.by).await.expect("begun"),
        world.identity.create_security_key(bob, &world.by).await.expect("begun"),
    );
    let device = Device::new(Kind::Es256, &his);
    let given = device.register(&hers, &Altered::default());
    assert!(matches!(world.validate(bob, his.id, &given).await, Err(Error::Key(KeyFault::Challenge))));
    assert!(matches!(world.validate(bob, hers.id, &given).await, Err(Error::NotFound { .. })));
    let mine = world.identity.create_security_key(alice, &world.by).await.expect("begun");
    world.validate(alice, mine.id, &device.register(&mine, &Altered::default())).await.expect("validated");
    let his = world.identity.create_security_key(bob, &world.by).await.expect("begun");
    let twice = world.validate(bob, his.id, &device.register(&his, &Altered::default())).await;
    assert!(matches!(twice, Err(Error::InUse { .. })), "{twice:?}");
}

#[tokio::test]
async fn a_key_that_is_disabled_removed_or_reset_is_good_no_more() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let mut device = world.enabled(alice, Kind::Es256).await;
    let id = device.number;
    let refused = world.identity.delete_security_key(alice, id, &world.by).await;
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    world.identity.describe_security_key(alice, id, "blue", &world.by).await.expect("described");
    assert_eq!(world.identity.security_keys(alice).await.expect("read")[0].description, "blue");

    let before = world.wanted("alice").await;
    world.identity.change_security_key(alice, id, FactorChange::Disable, &world.by).await.expect("disabled");
    let answer = device.assert(&world.passkey_request(), &Altered::default());
    assert!(matches!(world.by_passkey(&answer).await, LoggedIn::Refused));
    // With none left, none is asked for: as it was before the first.
    assert!(matches!(world.log_in("alice", OWN, "", None).await, LoggedIn::Done { factor: None, .. }));
    world.identity.change_security_key(alice, id, FactorChange::Enable, &world.by).await.expect("enabled");
    let answer = device.assert(&before, &Altered::default());
    assert!(matches!(world.log_in("alice", OWN, "", Some(&answer)).await, LoggedIn::Done { factor: Some(_), .. }));

    // An account that wants a second factor has it by a key, and backup codes go with one.
    world.identity.require_second_factor(&world.account, true, &world.by).await.expect("required");
    assert!(matches!(world.log_in("alice", OWN, "", None).await, LoggedIn::CodeWanted(Some(_))));
    let codes = world.identity.create_backup_codes(alice, &world.by).await.expect("codes");
    let validated = FactorChange::Validate;
    world.identity.change_backup_codes(alice, validated, &codes[0], here(), &world.by).await.expect("validated");
    let done = world.log_in("alice", OWN, &codes[1], None).await;
    assert!(matches!(done, LoggedIn::Done { factor: Some(Factor::BackupCode), .. }), "{done:?}");

    world.identity.disable_person(&world.account, "alice", &world.by).await.expect("disabled");
    let answer = device.assert(&world.passkey_request(), &Altered::default());
    assert!(matches!(world.by_passkey(&answer).await, LoggedIn::Refused));
    world.identity.enable_person(&world.account, "alice", &world.by).await.expect("enabled");

    // Where users are to come by the account's provider, a passkey lets nobody in.
    let (kind, at) = ("OIDC".to_owned(), jiff::Timestamp::now());
    let account = world.account.clone();
    let provider = db::sso::Provider { account, kind, disable_users: true, created: at, updated: at };
    let mut tx = world.db.begin().await.expect("a transaction");
    db::sso::insert(&mut tx, &provider).await.expect("a provider");
    tx.commit().await.expect("committed");
    let answer = device.assert(&world.passkey_request(), &Altered::default());
    assert!(matches!(world.by_passkey(&answer).await, LoggedIn::Refused));
    assert!(world.log().await.contains("by its provider of single sign-on alone"));

    world.identity.reset_second_factors(&world.account, "alice", &world.by).await.expect("reset");
    assert!(world.identity.security_keys(alice).await.expect("read").is_empty());
    let answer = device.assert(&world.passkey_request(), &Altered::default());
    assert!(matches!(world.by_passkey(&answer).await, LoggedIn::Refused));
    assert!(world.log().await.contains("secondFactors.reset"));
}

#[tokio::test]
async fn an_authenticator_that_holds_a_key_of_the_user_is_asked_for_no_second() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let (one, two) = (world.enabled(alice, Kind::Es256).await, world.enabled(alice, Kind::Ed25519).await);
    world.identity.change_security_key(alice, one.number, FactorChange::Disable, &world.by).await.expect("disabled");
    // One that was begun and never made is none; a disabled one is one still.
    world.identity.create_security_key(alice, &world.by).await.expect("begun");
    let begun = world.identity.create_security_key(alice, &world.by).await.expect("begun");
    let ids = [&one, &two].map(|device| BASE64.encode(&device.id));
    assert_eq!(begun.excluded, ids);
    let listed = begun.exclude_credentials();
    assert_eq!(listed[1], serde_json::json!({ "type": "public-key", "id": ids[1] }));
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    let of_bob = world.identity.create_security_key(bob, &world.by).await.expect("begun");
    assert!(of_bob.excluded.is_empty(), "another user's keys are nobody's business");
}

#[tokio::test]
async fn a_user_has_ten_keys_at_most_and_a_service_without_a_name_none() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    for _ in 0..10 {
        world.identity.create_security_key(alice, &world.by).await.expect("begun");
    }
    let eleventh = world.identity.create_security_key(alice, &world.by).await;
    assert!(matches!(eleventh, Err(Error::TooMany { .. })), "{eleventh:?}");
    let nameless = world.identity.clone().with_public_urls(&["https://192.0.2.1".to_owned()]);
    assert!(matches!(nameless.passkey_request(here()), Err(Error::InUse { .. })));
    for (urls, party) in [
        (&["http://127.0.0.1:8080"][..], Some("localhost")),
        (&["http://[::1]:8080"], Some("localhost")),
        (&["http://api.example.org"], None),
        (&["https://192.0.2.1", "https://b.example.org/"], Some("b.example.org")),
        (&["not a URL"], None),
    ] {
        let urls: Vec<String> = urls.iter().map(|&url| url.to_owned()).collect();
        let request = world.identity.clone().with_public_urls(&urls).passkey_request(here());
        assert_eq!(request.ok().map(|request| request.party).as_deref(), party, "{urls:?}");
    }
}
