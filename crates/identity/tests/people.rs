//! Set-up links over a real database: their time, and what a copy of the database tells.

use std::sync::Arc;

use audit::{Actor, Audit};
use db::Db;
use identity::{Error, Identity, NewPerson};
use jiff::{SignedDuration, Timestamp};
use keys::Keys;
use model::AccountId;
use zeroize::Zeroizing;

#[tokio::test]
async fn a_set_up_link_is_good_for_a_day_for_one_of_two_that_use_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
    let keys = Arc::new(Keys::open(&dir.path().join("keys")).expect("keys"));
    let identity = Identity::new(db.clone(), Audit::new(db.clone()), keys);
    let (by, account) = (Actor::operator(), "ab1234-casemate".parse::<AccountId>().expect("an account"));
    identity.create_account(&account, "", "", &by).await.expect("an account");
    let new = NewPerson { login: "root".to_owned(), group: "ADMIN".to_owned(), ..NewPerson::default() };
    identity.create_person(&account, new, &by).await.expect("a user");
    let link = identity.create_setup(&account, "root", &by).await.expect("a link");

    let hash = crypto::digest::sha256(&[link.token.as_bytes()]);
    let (end, second) = (link.expires, SignedDuration::from_secs(1));
    let left = end.duration_since(Timestamp::now()).as_secs();
    assert!((86_000..=86_400).contains(&left), "{left}");
    assert!(db::people::find_setup(&db, &hash, end - second).await.expect("read").is_some());
    assert!(db::people::find_setup(&db, &hash, end).await.expect("read").is_none());

    let chosen = || Zeroizing::new("correct horse battery staple".to_owned());
    let (one, other) =
        tokio::join!(identity.use_setup(&link.token, chosen(), &by), identity.use_setup(&link.token, chosen(), &by));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert!(matches!(one.and(other), Err(Error::NotFound { .. })));
    for file in std::fs::read_dir(dir.path()).expect("listed").flatten().filter(|file| file.path().is_file()) {
        let bytes = std::fs::read(file.path()).expect("read");
        for secret in [link.token.as_str(), &chosen()] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "a secret in clear");
        }
    }
}
