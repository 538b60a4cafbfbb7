//! Keys that other keys granted: which one did is told by the audit log where migration 0040 came later, and is forgotten of a
//! key that its user keeps.
#![allow(missing_docs, reason = "a test")]

use db::{
    Db, Tx,
    credentials::{Application, Credential, Grant},
};
use jiff::Timestamp;
use model::AccountId;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

const MIGRATION: &str = include_str!("../migrations/0040_granters_of_keys.sql");

struct World {
    dir: tempfile::TempDir,
    db: Db,
    account: AccountId,
    application: i64,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let account: AccountId = "ab1234-casemate".parse().expect("an account");
        let (email, name, created) = (String::new(), String::new(), Timestamp::now());
        let mut tx = db.begin().await.expect("a transaction");
        let row = db::accounts::Account { id: account.clone(), email, name, created };
        db::accounts::insert(&mut tx, &row).await.expect("an account");
        let row = Application {
            id: 0,
            account: account.clone(),
            key: "key".to_owned(),
            sealed_secret: Vec::new(),
            name: String::new(),
            description: String::new(),
            created,
        };
        let application = db::credentials::insert_application(&mut tx, &row).await.expect("an application");
        tx.commit().await.expect("committed");
        World { dir, db, account, application }
    }

    /// A key of the user 7, granted by another key or by the user; each has a hash of its own.
    async fn key(&self, tx: &mut Tx, hash: u8, granted_by: Option<i64>) -> i64 {
        let row = Credential {
            id: 0,
            application: self.application,
            account: None,
            person: None,
            key_hash: vec![hash],
            token_hash: None,
            status: "pendingValidation".to_owned(),
            rules: "[]".to_owned(),
            allowed_ips: None,
            redirection: None,
            created: Timestamp::now(),
            expiration: None,
            last_use: None,
        };
        let id = db::credentials::insert(tx, &row, "unknown").await.expect("a key");
        let account = self.account.clone();
        let grant = Grant { account, person: Some(7), allowed_ips: None, expiration: None, granted_by };
        assert!(db::credentials::grant(tx, id, &grant).await.expect("granted"));
        id
    }
}

#[tokio::test]
async fn the_audit_log_tells_which_key_granted_another() {
    let world = World::new().await;
    let mut tx = world.db.begin().await.expect("a transaction");
    let mut keys = Vec::new();
    for number in 0..6 {
        keys.push(world.key(&mut tx, number, None).await);
    }
    let [first, second, third, by_person, ended, outlived] = keys[..] else { panic!("six keys") };
    db::credentials::expire(&mut tx, ended).await.expect("ended");
    let call = "account:apiovh:auth/validate/create";
    let grant = "account:apiovh:auth/validate/grant";
    for (granted, action, proof) in [
        (second, call, format!("credential/{first}")),
        (third, call, format!("credential/{second}")),
        (outlived, call, format!("credential/{ended}")),
        (by_person, grant, "session/1".to_owned()),
    ] {
        let request = format!("casemate.{granted}");
        let told = entry("credential.validated", &format!("credential/{granted}"), &request, "{}");
        db::audit::append(&mut tx, &told).await.expect("an entry");
        let proof = format!("{{\"proof\":\"{proof}\"}}");
        db::audit::append(&mut tx, &entry(action, "/1.0/auth/validate/*", &request, &proof)).await.expect("an entry");
    }
    tx.commit().await.expect("committed");
    world.db.close().await;

    let path = world.dir.path().join("casemate.sqlite");
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.expect("a connection");
    for _ in 0..2 {
        sqlx::raw_sql(MIGRATION).execute(&mut connection).await.expect("migrated");
        let granters: Vec<Option<i64>> = sqlx::query_scalar("SELECT granted_by FROM credentials ORDER BY id")
            .fetch_all(&mut connection)
            .await
            .expect("read");
        assert_eq!(granters, [None, Some(first), Some(second), None, None, None]);
    }
}

#[tokio::test]
async fn a_key_that_its_user_keeps_outlives_the_one_that_granted_it() {
    let world = World::new().await;
    let mut tx = world.db.begin().await.expect("a transaction");
    let first = world.key(&mut tx, 0, None).await;
    let kept = world.key(&mut tx, 1, Some(first)).await;
    let third = world.key(&mut tx, 2, Some(kept)).await;
    let mut ended = db::credentials::expire_of_person(&mut tx, 7, Some(kept)).await.expect("ended");
    ended.sort_unstable();
    assert_eq!(ended, [first, third]);
    assert_eq!(db::credentials::expire(&mut tx, first).await.expect("ended"), None, "it had ended");
    // It grants again, and what it grants ends with it.
    let fourth = world.key(&mut tx, 3, Some(kept)).await;
    assert!(db::credentials::is_good(&mut tx, kept, None, Timestamp::now()).await.expect("read"));
    assert_eq!(db::credentials::expire(&mut tx, kept).await.expect("ended"), Some(vec![fourth]));
    assert!(!db::credentials::is_good(&mut tx, fourth, None, Timestamp::now()).await.expect("read"));
}

fn entry(action: &str, resource: &str, request: &str, detail: &str) -> db::audit::Row {
    db::audit::Row {
        id: 0,
        at: Timestamp::now(),
        account: None,
        identity: "person/root".to_owned(),
        source_ip: None,
        action: action.to_owned(),
        resource: resource.to_owned(),
        decision: "none".to_owned(),
        result: String::new(),
        request_id: Some(request.to_owned()),
        detail: detail.to_owned(),
    }
}
