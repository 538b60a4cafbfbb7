//! Names of identities and resources: `urn:v1:eu:identity:user:ab1234-casemate/alice`. Two texts that differ name two
//! things: what may be written in two ways (a percent-encoded letter, lower-case hexadecimal digits) is refused.

use std::fmt;

use model::{AccountId, BucketName, JobId, ProjectId};

use super::Pattern;

/// The beginning of every URN of this service.
pub const URN_PREFIX: &str = "urn:v1:eu:";

/// The beginning of the URN of every resource group.
pub(super) const RESOURCE_GROUP_PREFIX: &str = "urn:v1:eu:resourceGroup:";

/// The beginning of the URN of everything in the object store.
pub(super) const STORAGE_PREFIX: &str = "urn:v1:eu:resource:storageS3:";

/// What a URN names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrnKind {
    /// Who acts: `identity:account:ID`, `identity:user:ACCOUNT/LOGIN`, `identity:group:ACCOUNT/NAME`,
    /// `identity:credential:ACCOUNT/oauth2-CLIENT`; in the object store `identity:publicCloudUser:PROJECT/NAME`,
    /// `identity:publicCloudJob:PROJECT/JOB`, `identity:publicCloudProject:PROJECT`.
    Identity,
    /// What is acted on: `resource:TYPE:ID`.
    Resource,
    /// A named list of resources: `resourceGroup:UUID`.
    ResourceGroup,
    /// A named list of permissions: `permissionsGroup:ACCOUNT:UUID`.
    PermissionsGroup,
}

impl UrnKind {
    const ALL: [UrnKind; 4] = [UrnKind::Identity, UrnKind::Resource, UrnKind::ResourceGroup, UrnKind::PermissionsGroup];

    /// The word in the URN.
    pub fn as_str(self) -> &'static str {
        match self {
            UrnKind::Identity => "identity",
            UrnKind::Resource => "resource",
            UrnKind::ResourceGroup => "resourceGroup",
            UrnKind::PermissionsGroup => "permissionsGroup",
        }
    }
}

/// A URN, whole and valid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Urn {
    text: String,
}

impl Urn {
    /// Reads a URN of at most 512 bytes.
    pub fn parse(text: &str) -> Result<Urn, InvalidUrn> {
        if text.len() > LONGEST {
            return Err(InvalidUrn::TooLong);
        }
        let rest = text.strip_prefix(URN_PREFIX).ok_or(InvalidUrn::Prefix)?;
        let (word, name) = rest.split_once(':').ok_or(InvalidUrn::Parts)?;
        let kind = UrnKind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(InvalidUrn::Kind)?;
        match kind {
            UrnKind::ResourceGroup => check_name(name)?,
            UrnKind::Identity | UrnKind::Resource | UrnKind::PermissionsGroup => {
                let (subtype, id) = name.split_once(':').ok_or(InvalidUrn::Parts)?;
                check_subtype(kind, subtype)?;
                check_name(id)?;
                let has_owner = kind == UrnKind::Identity && OWNED.contains(&subtype);
                if has_owner
                    && !id.split_once('/').is_some_and(|(account, rest)| !account.is_empty() && !rest.is_empty())
                {
                    return Err(InvalidUrn::Owner);
                }
            }
        }
        check_storage(text)?;
        Ok(Urn { text: text.to_owned() })
    }

    /// The URN of an account as one who acts.
    pub fn account_identity(account: &AccountId) -> Urn {
        Urn { text: format!("{URN_PREFIX}identity:account:{account}") }
    }

    /// The URN of a user of an account.
    pub fn user(account: &AccountId, login: &str) -> Urn {
        Urn { text: format!("{URN_PREFIX}identity:user:{account}/{}", encoded(login)) }
    }

    /// The URN of a group of an account.
    pub fn group(account: &AccountId, name: &str) -> Urn {
        Urn { text: format!("{URN_PREFIX}identity:group:{account}/{}", encoded(name)) }
    }

    /// The URN of a service account, by its id.
    pub fn credential(account: &AccountId, id: &str) -> Urn {
        Urn { text: format!("{URN_PREFIX}identity:credential:{account}/oauth2-{}", encoded(id)) }
    }

    /// The URN of a project as one who acts: of a key that is of none of its users.
    pub fn project_identity(project: &ProjectId) -> Urn {
        Urn { text: format!("{URN_PREFIX}identity:publicCloudProject:{project}") }
    }

    /// The URN of a user of a project.
    pub fn project_user(project: &ProjectId, name: &str) -> Urn {
        Urn { text: format!("{URN_PREFIX}identity:publicCloudUser:{project}/{}", encoded(name)) }
    }

    /// The URN of a job as one who acts.
    pub fn job(project: &ProjectId, job: &JobId) -> Urn {
        Urn { text: format!("{URN_PREFIX}identity:publicCloudJob:{project}/{job}") }
    }

    /// The URN of an object, of a bucket where no key is given, and of all buckets of a project where no bucket is. That of
    /// a long key is longer than one that [`Urn::parse`] reads.
    pub fn storage(project: &ProjectId, bucket: Option<&str>, key: Option<&str>) -> Urn {
        let mut text = format!("{STORAGE_PREFIX}{project}");
        for part in bucket.into_iter().chain(key.filter(|_| bucket.is_some())) {
            text.push('/');
            encode(part, &mut text);
        }
        Urn { text }
    }

    /// What of the object store it names; `None`: nothing there.
    pub fn as_storage(&self) -> Option<StoragePlace> {
        let mut parts = self.text.strip_prefix(STORAGE_PREFIX)?.splitn(3, '/');
        let project = parts.next()?.parse().ok()?;
        let bucket = parts.next().map(|name| name.parse::<BucketName>()).transpose().ok()?;
        // An object without a name is none.
        let key = parts.next().map(|key| decoded(key).filter(|key| !key.is_empty()).ok_or(())).transpose().ok()?;
        Some(StoragePlace { project, bucket, key })
    }

    /// The URN of an account as what is acted on.
    pub fn account(account: &AccountId) -> Urn {
        Urn { text: format!("{URN_PREFIX}resource:account:{account}") }
    }

    /// The URN of a project.
    pub fn project(project: &ProjectId) -> Urn {
        Urn { text: self::project(project.as_str()) }
    }

    /// The URN of a resource group.
    pub(super) fn resource_group(id: &str) -> Urn {
        Urn { text: format!("{URN_PREFIX}resourceGroup:{id}") }
    }

    /// The URN of a permissions group.
    pub(super) fn permissions_group(account: &AccountId, id: &str) -> Urn {
        Urn { text: format!("{URN_PREFIX}permissionsGroup:{account}:{id}") }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it names.
    pub fn kind(&self) -> UrnKind {
        let word = self.text[URN_PREFIX.len()..].split(':').next().unwrap_or_default();
        UrnKind::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(UrnKind::Resource)
    }

    /// The part after the kind, such as `publicCloudProject`; empty for a resource group.
    pub fn subtype(&self) -> &str {
        match self.kind() {
            UrnKind::ResourceGroup => "",
            _ => self.text[URN_PREFIX.len()..].split(':').nth(1).unwrap_or_default(),
        }
    }

    /// The last part: which one of its kind.
    pub fn id(&self) -> &str {
        let parts = if self.kind() == UrnKind::ResourceGroup { 2 } else { 3 };
        self.text[URN_PREFIX.len()..].splitn(parts, ':').last().unwrap_or_default()
    }
}

impl fmt::Display for Urn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A place in the object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePlace {
    /// Whose.
    pub project: ProjectId,
    /// The bucket; `None`: all of the project.
    pub bucket: Option<BucketName>,
    /// The key of an object; `None`: the bucket.
    pub key: Option<String>,
}

/// The URN of the project of that id.
pub(super) fn project(id: &str) -> String {
    format!("{URN_PREFIX}resource:publicCloudProject:{id}")
}

/// The project of a thing in the object store, by its URN.
pub(super) fn storage_project(urn: &str) -> Option<&str> {
    urn.strip_prefix(STORAGE_PREFIX)?.split('/').next()
}

/// Reads a URN of one of these kinds that may have `*` at its beginning or end.
pub(super) fn parse_pattern(text: &str, kinds: &[UrnKind]) -> Result<Pattern, InvalidUrn> {
    if text.len() > LONGEST {
        return Err(InvalidUrn::TooLong);
    }
    let pattern = Pattern::parse(text).ok_or(InvalidUrn::Star)?;
    if kinds.contains(&UrnKind::Identity) {
        check_plain(pattern.fixed())?;
    }
    if pattern.is_exact() {
        let urn = Urn::parse(text)?;
        return if kinds.contains(&urn.kind()) { Ok(pattern) } else { Err(InvalidUrn::Kind) };
    }
    check_name_or_empty(pattern.fixed())?;
    // One that begins with `*` may be meant for the object store too.
    match pattern.begins_open() {
        true => check_plain(pattern.fixed())?,
        false => check_storage(pattern.fixed())?,
    }
    if !pattern.begins_open() {
        let begins = |kind: &UrnKind| {
            let full = format!("{URN_PREFIX}{}:", kind.as_str());
            full.starts_with(pattern.fixed()) || pattern.fixed().starts_with(&full)
        };
        if !kinds.iter().any(begins) {
            return Err(if pattern.fixed().starts_with(URN_PREFIX) { InvalidUrn::Kind } else { InvalidUrn::Prefix });
        }
    }
    Ok(pattern)
}

/// Why a text is not a URN of this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrn {
    /// It is too long.
    #[error("a URN has at most 512 bytes")]
    TooLong,
    /// It is not one of this service.
    #[error("URNs of this service begin with `urn:v1:eu:`")]
    Prefix,
    /// It does not name a thing that may be named here.
    #[error("a URN of this kind is not possible here")]
    Kind,
    /// A part is missing.
    #[error("a URN is `urn:v1:eu:KIND:TYPE:ID`, and `urn:v1:eu:resourceGroup:ID` for a resource group")]
    Parts,
    /// The type is not one.
    #[error(
        "the type is a letter and then at most 63 letters and digits; of identities: account, user, group, credential, \
         publicCloudUser, publicCloudJob, publicCloudProject"
    )]
    Subtype,
    /// The account is missing.
    #[error(
        "a user, group or credential is named `ACCOUNT/NAME`; a user of a project `PROJECT/NAME`, a job `PROJECT/JOB`"
    )]
    Owner,
    /// A character is not possible.
    #[error(
        "the id has 1 or more of A-Z a-z 0-9 - . _ ~ ! $ & ' ( ) + , ; = : @ / and `%XX` with upper-case digits, \
         which stands for none of A-Z a-z 0-9 - . _ ~"
    )]
    Characters,
    /// A character of an identity or of the object store is written in another way than it is asked by.
    #[error(
        "of identities and in the object store each of ! $ & ' ( ) + , ; = : @ / stands for itself, and is not written \
         `%XX`"
    )]
    Plain,
    /// A `*` stands where none may.
    #[error("`*` may stand once at the beginning and once at the end only")]
    Star,
}

fn check_subtype(kind: UrnKind, subtype: &str) -> Result<(), InvalidUrn> {
    let good = match kind {
        UrnKind::Identity => OWNED.contains(&subtype) || ["account", "publicCloudProject"].contains(&subtype),
        UrnKind::PermissionsGroup => return check_name(subtype),
        UrnKind::Resource | UrnKind::ResourceGroup => {
            subtype.len() <= 64
                && subtype.starts_with(|c: char| c.is_ascii_alphabetic())
                && subtype.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }
    };
    if good { Ok(()) } else { Err(InvalidUrn::Subtype) }
}

fn check_name(name: &str) -> Result<(), InvalidUrn> {
    if name.is_empty() { Err(InvalidUrn::Characters) } else { check_name_or_empty(name) }
}

/// A name as it stands in a URN.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    encode(name, &mut text);
    text
}

fn encode(name: &str, text: &mut String) {
    for byte in name.bytes() {
        match char::from(byte) {
            c if is_unreserved(byte) || PLAIN.contains(c) => text.push(c),
            _ => {
                text.push('%');
                text.extend([byte >> 4, byte & 15].map(|digit| char::from(HEXADECIMAL[usize::from(digit)])));
            }
        }
    }
}

/// The name that stands so in a URN, if it is text.
fn decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => u8::from_str_radix(std::str::from_utf8(&[rest.next()?, rest.next()?]).ok()?, 16).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The characters of RFC 3986 `pchar` and `/` without `*`, which is the wildcard.
fn check_name_or_empty(name: &str) -> Result<(), InvalidUrn> {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| match byte {
                    Some(byte @ b'0'..=b'9') => Some(byte - b'0'),
                    Some(byte @ b'A'..=b'F') => Some(byte - b'A' + 10),
                    _ => None,
                };
                match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => !is_unreserved(high * 16 + low),
                    _ => false,
                }
            }
            byte => is_unreserved(byte) || PLAIN.contains(char::from(byte)),
        };
        if !good {
            return Err(InvalidUrn::Characters);
        }
    }
    Ok(())
}

/// A name in the object store is asked in one spelling: one that differs would match nothing, and so deny nothing.
fn check_storage(text: &str) -> Result<(), InvalidUrn> {
    text.strip_prefix(STORAGE_PREFIX).map_or(Ok(()), check_plain)
}

fn check_plain(name: &str) -> Result<(), InvalidUrn> {
    let written = name.split('%').skip(1).filter_map(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok());
    match written.map(char::from).any(|c| PLAIN.contains(c)) {
        true => Err(InvalidUrn::Plain),
        false => Ok(()),
    }
}

/// A pattern in the spelling that identities and objects are asked by: some were kept in another one before it was refused.
pub(super) fn respelled(pattern: &str) -> String {
    let mut parts = pattern.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let written = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from);
        match written.filter(|c| PLAIN.contains(*c)) {
            Some(c) => text.extend([c].into_iter().chain(part.chars().skip(2))),
            None => text.extend(['%'].into_iter().chain(part.chars())),
        }
    }
    text
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What stands for itself beside what is unreserved.
const PLAIN: &str = "!$&'()+,;=:@/";
const HEXADECIMAL: &[u8; 16] = b"0123456789ABCDEF";
const LONGEST: usize = 512;
/// Types of identities that are named below an owner.
const OWNED: [&str; 5] = ["user", "group", "credential", "publicCloudUser", "publicCloudJob"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_urn_has_one_spelling() {
        for good in [
            "urn:v1:eu:identity:account:ab1234-casemate",
            "urn:v1:eu:identity:user:ab1234-casemate/alice@example.org",
            "urn:v1:eu:identity:user:ab1234-casemate/a%20b%C3%A9",
            "urn:v1:eu:identity:credential:ab1234-casemate/oauth2-EU.1f",
            "urn:v1:eu:identity:publicCloudUser:0123/user-1f",
            "urn:v1:eu:identity:publicCloudProject:0123",
            "urn:v1:eu:resource:publicCloudProject:0123",
            "urn:v1:eu:resource:vps:a:b/c",
            "urn:v1:eu:resourceGroup:b1bd7e59-0000-7000-8000-000000000000",
            "urn:v1:eu:permissionsGroup:ovh:controlPanelAccess",
        ] {
            assert_eq!(Urn::parse(good).expect(good).to_string(), good);
        }
        for (wrong, why) in [
            ("", InvalidUrn::Prefix),
            ("urn:v1:us:resource:vps:a", InvalidUrn::Prefix),
            ("URN:v1:eu:resource:vps:a", InvalidUrn::Prefix),
            ("urn:v1:eu:resource", InvalidUrn::Parts),
            ("urn:v1:eu:resource:vps", InvalidUrn::Parts),
            ("urn:v1:eu:resource:vps:", InvalidUrn::Characters),
            ("urn:v1:eu:resource:v-s:a", InvalidUrn::Subtype),
            ("urn:v1:eu:identity:robot:a/b", InvalidUrn::Subtype),
            ("urn:v1:eu:identity:user:alice", InvalidUrn::Owner),
            ("urn:v1:eu:identity:user:ab1234/", InvalidUrn::Owner),
            ("urn:v1:eu:identity:publicCloudJob:0123", InvalidUrn::Owner),
            ("urn:v1:eu:planet:vps:a", InvalidUrn::Kind),
            ("urn:v1:eu:resource:vps:a b", InvalidUrn::Characters),
            ("urn:v1:eu:resource:vps:%41", InvalidUrn::Characters),
            ("urn:v1:eu:resource:vps:%2f", InvalidUrn::Characters),
            ("urn:v1:eu:resource:vps:%2", InvalidUrn::Characters),
            ("urn:v1:eu:resource:vps:é", InvalidUrn::Characters),
            ("urn:v1:eu:resource:vps:*", InvalidUrn::Characters),
        ] {
            assert_eq!(Urn::parse(wrong), Err(why), "{wrong}");
        }
        assert_eq!(Urn::parse(&format!("{URN_PREFIX}resource:vps:{}", "a".repeat(512))), Err(InvalidUrn::TooLong));
    }

    #[test]
    fn the_urn_of_any_name_is_valid_and_its_own() {
        let account: AccountId = "ab1234-casemate".parse().expect("an account");
        let names = ["alice@example.org", "on call/é", "100%", "a*b", "\u{1}"];
        for name in names {
            for urn in [Urn::user(&account, name), Urn::group(&account, name), Urn::credential(&account, name)] {
                assert_eq!(Urn::parse(urn.as_str()), Ok(urn.clone()), "{name}");
            }
        }
        assert_eq!(Urn::group(&account, "on call").as_str(), "urn:v1:eu:identity:group:ab1234-casemate/on%20call");
    }

    #[test]
    fn what_is_in_the_object_store_has_one_name_and_is_found_by_it() {
        let project: ProjectId = "0123456789abcdef0123456789abcdef".parse().expect("a project");
        let bucket: BucketName = "data".parse().expect("a bucket");
        let whole = "urn:v1:eu:resource:storageS3:0123456789abcdef0123456789abcdef";
        for (key, written) in
            [("a/b c*é%", "a/b%20c%2A%C3%A9%25"), ("/", "/"), ("a//b:@", "a//b:@"), ("\u{0}\u{7f}", "%00%7F")]
        {
            let urn = Urn::storage(&project, Some("data"), Some(key));
            assert_eq!(urn.as_str(), format!("{whole}/data/{written}"));
            assert_eq!(Urn::parse(urn.as_str()), Ok(urn.clone()));
            let place = urn.as_storage().expect("a place");
            assert_eq!((place.bucket.as_ref(), place.key.as_deref()), (Some(&bucket), Some(key)));
            assert_eq!(storage_project(urn.as_str()), Some(project.as_str()));
        }
        let place = |text: &str| Urn::parse(text).ok().and_then(|urn| urn.as_storage());
        let of =
            |bucket: Option<&BucketName>| StoragePlace { project: project.clone(), bucket: bucket.cloned(), key: None };
        assert_eq!(place(whole), Some(of(None)));
        assert_eq!(place(Urn::storage(&project, Some("data"), None).as_str()), Some(of(Some(&bucket))));
        for none in ["urn:v1:eu:resource:storageS3:x", "urn:v1:eu:resource:vps:0123456789abcdef0123456789abcdef"] {
            assert_eq!(place(none), None, "{none}");
        }
        for none in ["/", "/Data", "/data/", "/data/%FF"] {
            assert_eq!(place(&format!("{whole}{none}")), None, "{none}");
        }
        let other = format!("{whole}/data/a%2Fb");
        assert_eq!(Urn::parse(&other), Err(InvalidUrn::Plain));
        let kinds = [UrnKind::Resource];
        assert_eq!(parse_pattern(&format!("{other}*"), &kinds), Err(InvalidUrn::Plain));
        assert!(parse_pattern(&format!("{whole}/data/%2A%C3*"), &kinds).is_ok());
        // A denial that is spelled so would deny nothing.
        for wrong in ["*/data/a%2Fb", "*a%2Bb*", "*%40*"] {
            assert_eq!(parse_pattern(wrong, &kinds), Err(InvalidUrn::Plain), "{wrong}");
        }
        assert!(parse_pattern("*/data/a%20b", &kinds).is_ok());
        let kinds = [UrnKind::Identity];
        for (wrong, right) in [
            ("urn:v1:eu:identity:user:ab1234/alice%40example.org", "urn:v1:eu:identity:user:ab1234/alice@example.org"),
            ("urn:v1:eu:identity:group:ab1234/on%20call%2F*", "urn:v1:eu:identity:group:ab1234/on%20call/*"),
            ("*%40example.org", "*@example.org"),
        ] {
            assert_eq!(parse_pattern(wrong, &kinds), Err(InvalidUrn::Plain), "{wrong}");
            assert!(parse_pattern(right, &kinds).is_ok(), "{right}");
            assert_eq!(respelled(wrong), right);
        }
    }

    #[test]
    fn a_urn_is_taken_apart() {
        let urn = Urn::parse("urn:v1:eu:resource:vps:a:b/c").expect("a URN");
        assert_eq!((urn.kind(), urn.subtype(), urn.id()), (UrnKind::Resource, "vps", "a:b/c"));
        let urn = Urn::resource_group("x");
        assert_eq!((urn.kind(), urn.subtype(), urn.id()), (UrnKind::ResourceGroup, "", "x"));
    }

    #[test]
    fn a_wildcard_stands_at_an_end_and_covers_the_kinds_that_may_be_named() {
        let kinds = [UrnKind::Resource, UrnKind::ResourceGroup];
        for good in ["*", "urn:*", "urn:v1:eu:res*", "urn:v1:eu:resource:vps:*", "*:0123", "*vps*"] {
            assert!(parse_pattern(good, &kinds).is_ok(), "{good}");
        }
        for (wrong, why) in [
            ("urn:v1:eu:*:vps", InvalidUrn::Star),
            ("**", InvalidUrn::Star),
            ("urn:v1:us:*", InvalidUrn::Prefix),
            ("urn:v1:eu:identity:*", InvalidUrn::Kind),
            ("urn:v1:eu:identity:account:a", InvalidUrn::Kind),
            ("urn:v1:eu:resource:a b*", InvalidUrn::Characters),
        ] {
            assert_eq!(parse_pattern(wrong, &kinds), Err(why), "{wrong}");
        }
    }

    proptest! {
        /// Each byte of the key's end is written as it is, or as `%XX`.
        #[test]
        fn a_pattern_for_the_end_of_a_key_matches_it_or_is_refused(
            key in "[a-c/+@ é%*.=]{1,12}",
            from in 0_usize..12,
            as_digits in proptest::collection::vec(any::<bool>(), 48),
        ) {
            let project: ProjectId = "0123456789abcdef0123456789abcdef".parse().expect("a project");
            let asked = Urn::storage(&project, Some("data"), Some(&key));
            let tail: String = key.chars().skip(from.min(key.chars().count() - 1)).collect();
            let spelled: Vec<u8> = tail
                .bytes()
                .zip(as_digits)
                .flat_map(|(byte, as_digits)| if as_digits { format!("%{byte:02X}").into_bytes() } else { vec![byte] })
                .collect();
            let Ok(spelled) = String::from_utf8(spelled) else { return Ok(()) };
            let matches = |pattern: &str| {
                parse_pattern(pattern, &[UrnKind::Resource]).map(|pattern| pattern.matches(asked.as_str()))
            };
            prop_assert_ne!(matches(&format!("*{spelled}")), Ok(false), "{} {}", spelled, asked);
            prop_assert_eq!(matches(&format!("*{}", encoded(&tail))), Ok(true), "{}", asked);
        }
    }
}
