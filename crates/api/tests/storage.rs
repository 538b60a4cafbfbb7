//! Buckets by the API, as those of a region and as the older containers (OBJ-1, OBJ-3). What clients of the store see of
//! it is in the tests of the whole service.

mod support;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{World, refused, refused_field};

const NONE: Value = Value::Null;

#[tokio::test]
async fn a_bucket_keeps_versions_from_when_it_is_told_to() {
    let world = World::new().await;
    let buckets = world.path("/region/GRA/storage");
    let status = |bucket: &Value| bucket["versioning"]["status"].as_str().expect("a status").to_owned();
    for asked in ["disabled", "enabled", "suspended"] {
        let body = json!({ "name": format!("made-{asked}"), "versioning": { "status": asked } });
        assert_eq!(status(&world.done("POST", &buckets, &body).await), asked);
    }
    let bucket = format!("{buckets}/made-disabled");
    let put = |status: &str| json!({ "versioning": { "status": status }, "encryption": { "sseAlgorithm": "AES256" } });
    assert_eq!(status(&world.done("PUT", &bucket, &put("disabled")).await), "disabled");
    assert_eq!(status(&world.done("PUT", &bucket, &put("enabled")).await), "enabled");
    refused_field(&world.call("PUT", &bucket, &put("disabled")).await, "versioning");
    refused_field(&world.call("PUT", &bucket, &put("always")).await, "versioning");
    let plain = json!({ "encryption": { "sseAlgorithm": "plaintext" } });
    refused_field(&world.call("PUT", &bucket, &plain).await, "encryption");
    assert_eq!(status(&world.done("PUT", &bucket, &json!({})).await), "enabled");
    assert_eq!(status(&world.done("PUT", &bucket, &put("suspended")).await), "suspended");
    assert_eq!(status(&world.done("GET", &bucket, &NONE).await), "suspended");
    let locked = objects::NewBucket { lock: true, ..objects::NewBucket::default() };
    let name = "locked".parse().expect("a name");
    world.objects.create_bucket(&world.project, &name, locked).await.expect("a bucket");
    refused_field(&world.call("PUT", &format!("{buckets}/locked"), &put("suspended")).await, "versioning");
}

#[tokio::test]
async fn a_bucket_shows_which_user_owns_it() {
    let world = World::new().await;
    let buckets = world.path("/region/GRA/storage");
    let user = world.done("POST", &world.path("/user"), &NONE).await;
    let made = world.done("POST", &buckets, &json!({ "name": "owned", "ownerId": user["id"] })).await;
    assert_eq!(made["ownerId"], user["id"]);
    world.done("POST", &buckets, &json!({ "name": "unowned" })).await;
    let listed = world.done("GET", &buckets, &NONE).await;
    assert_eq!((&listed[0]["ownerId"], &listed[1]["ownerId"]), (&user["id"], &json!(0)));
    refused_field(&world.call("POST", &buckets, &json!({ "name": "foreign", "ownerId": 4711 })).await, "ownerId");
    refused(&world.call("GET", &format!("{buckets}/foreign"), &NONE).await, 404, "NOT_FOUND");
    world.done("DELETE", &world.path(&format!("/user/{}", user["id"])), &NONE).await;
    assert_eq!(world.done("GET", &format!("{buckets}/owned"), &NONE).await["ownerId"], 0, "its owner is gone");
}

#[tokio::test]
async fn a_role_on_a_bucket_is_a_statement_of_the_users_policy() {
    let world = World::new().await;
    let buckets = world.path("/region/GRA/storage");
    world.done("POST", &buckets, &json!({ "name": "data" })).await;
    let user = world.done("POST", &world.path("/user"), &NONE).await;
    let grant = format!("{buckets}/data/policy/{}", user["id"]);
    let policy = || async {
        let shown = world.done("GET", &world.path(&format!("/user/{}/policy", user["id"])), &NONE).await;
        serde_json::from_str::<Value>(shown["policy"].as_str().expect("a policy")).unwrap_or(NONE)
    };
    for role in ["readOnly", "admin"] {
        assert_eq!(world.done("POST", &grant, &json!({ "roleName": role, "objectKey": "" })).await, NONE);
    }
    world.done("POST", &grant, &json!({ "roleName": "deny", "objectKey": "secret/*" })).await;
    let statements = policy().await["Statement"].as_array().cloned().expect("statements");
    assert_eq!(statements.len(), 2, "{statements:?}");
    assert_eq!(statements[0]["Action"], json!(["s3:*"]), "the later role on the same takes the place of the earlier");
    assert_eq!(statements[1]["Resource"], json!(["arn:aws:s3:::data/secret/*"]));
    for (body, field) in [
        (json!({ "roleName": "owner" }), "roleName"),
        (json!({ "roleName": "admin", "objectKey": "k".repeat(1025) }), "objectKey"),
        (json!({ "roleName": "admin", "objectKey": "a\u{0}b" }), "objectKey"),
    ] {
        refused_field(&world.call("POST", &grant, &body).await, field);
    }
    let body = json!({ "roleName": "admin" });
    refused(&world.call("POST", &format!("{buckets}/data/policy/4711"), &body).await, 404, "NOT_FOUND");
    refused(&world.call("POST", &grant.replace("/data/", "/absent/"), &body).await, 404, "NOT_FOUND");
    assert_eq!(policy().await["Statement"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn containers_are_the_same_buckets() {
    let world = World::new().await;
    let containers = world.path("/storage");
    let body = json!({ "archive": false, "containerName": "old", "region": "GRA" });
    let made = world.done("POST", &containers, &body).await;
    assert_eq!((&made["id"], &made["containerType"]), (&json!("old"), &json!("private")));
    refused(&world.call("POST", &containers, &body).await, 409, "CONFLICT");
    for (body, field) in [
        (json!({ "containerName": "Old", "region": "GRA" }), "containerName"),
        (json!({ "containerName": "old2", "region": "MARS" }), "region"),
        (json!({ "containerName": "old2", "region": "GRA", "archive": true }), "archive"),
    ] {
        refused_field(&world.call("POST", &containers, &body).await, field);
    }
    world.done("POST", &world.path("/region/GRA/storage"), &json!({ "name": "new" })).await;
    let listed = world.done("GET", &containers, &NONE).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!(listed[0]["containerType"], NONE);
    let listed = world.done("GET", &format!("{containers}?includeType=true"), &NONE).await;
    assert_eq!(listed[0]["containerType"], "private");
    refused_field(&world.call("GET", &format!("{containers}?includeType=maybe"), &NONE).await, "includeType");
    let quota = world.done("GET", &format!("{containers}/quota"), &NONE).await;
    assert_eq!(quota, json!({ "buckets": 2, "maxBuckets": 10_000 }));
    let shown = world.done("GET", &format!("{containers}/old?noObjects=true&prefix=a"), &NONE).await;
    assert_eq!((&shown["objects"], &shown["cors"], &shown["public"]), (&json!([]), &json!([]), &json!(false)));
    refused_field(&world.call("POST", &format!("{containers}/old/static"), &NONE).await, "static");
    world.done("DELETE", &format!("{containers}/old?recursive=true"), &NONE).await;
    for (method, rest) in [("GET", ""), ("DELETE", ""), ("PUT", ""), ("POST", "/cors"), ("POST", "/user")] {
        refused(&world.call(method, &format!("{containers}/old{rest}"), &json!({})).await, 404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn a_container_is_opened_and_closed() {
    let world = World::new().await;
    let container = world.path("/storage/open");
    world.done("POST", &world.path("/region/GRA/storage"), &json!({ "name": "open" })).await;
    let kind = || async {
        let shown = world.done("GET", &container, &NONE).await;
        (shown["containerType"].as_str().expect("a type").to_owned(), shown["public"] == true, shown)
    };
    for (asked, public) in [("public", true), ("public", true), ("private", false), ("private", false)] {
        assert_eq!(world.done("PUT", &container, &json!({ "containerType": asked })).await, NONE);
        let (kind, is_public, shown) = kind().await;
        assert_eq!((kind.as_str(), is_public), (asked, public), "{shown}");
        assert_eq!(shown["staticUrl"], format!("http://127.0.0.1:9000/{}:open/", world.project));
    }
    world.done("PUT", &container, &json!({ "containerType": null })).await;
    refused_field(&world.call("PUT", &container, &json!({ "containerType": "static" })).await, "containerType");
    refused_field(&world.call("PUT", &container, &json!({ "containerType": "secret" })).await, "containerType");
    assert_eq!(kind().await.0, "private");
}

#[tokio::test]
async fn origins_are_let_in_and_out() {
    let world = World::new().await;
    world.done("POST", &world.path("/region/GRA/storage"), &json!({ "name": "web" })).await;
    let container = world.path("/storage/web");
    let cors = format!("{container}/cors");
    let origins = || async { world.done("GET", &container, &NONE).await["cors"].clone() };
    for origin in ["https://app.example.org", "*", "https://app.example.org"] {
        assert_eq!(world.done("POST", &cors, &json!({ "origin": origin })).await, NONE);
    }
    assert_eq!(origins().await, json!(["https://app.example.org", "*"]));
    for wrong in ["", "app.example.org", "https://a/b", "https://*.*.org"] {
        refused_field(&world.call("POST", &cors, &json!({ "origin": wrong })).await, "origin");
    }
    let gone = format!("{cors}?origin=https%3A%2F%2Fapp.example.org");
    world.done("DELETE", &gone, &NONE).await;
    refused(&world.call("DELETE", &gone, &NONE).await, 404, "NOT_FOUND");
    refused_field(&world.call("DELETE", &cors, &NONE).await, "origin");
    assert_eq!(origins().await, json!(["*"]));
    for number in 0..99 {
        world.done("POST", &cors, &json!({ "origin": format!("https://{number}.org") })).await;
    }
    let more = world.call("POST", &cors, &json!({ "origin": "https://one.more.org" })).await;
    refused(&more, 400, "BAD_REQUEST");
    assert!(more.body["message"].as_str().is_some_and(|words| words.contains("100")), "{more:?}");
    assert_eq!(origins().await.as_array().map(Vec::len), Some(100));
}

#[tokio::test]
async fn a_user_of_a_container_has_that_right_and_no_other() {
    let world = World::new().await;
    world.done("POST", &world.path("/region/GRA/storage"), &json!({ "name": "shared" })).await;
    let users = world.path("/storage/shared/user");
    for (right, reads, writes) in [("read", true, false), ("write", false, true), ("all", true, true)] {
        let made = world.done("POST", &users, &json!({ "description": right, "right": right })).await;
        assert!(made["password"].as_str().is_some_and(|password| !password.is_empty()), "{made}");
        let body = json!({ "password": made["password"] });
        let token = world.done("POST", &world.path(&format!("/user/{}/token", made["id"])), &body).await;
        let token = token["X-Auth-Token"].as_str().expect("a token");
        let grant = world.identity.find_user_token(token).await.expect("found").expect("a grant");
        let may = |action: &str, bucket: &str| {
            let question = identity::S3Question {
                project: &world.project,
                action,
                bucket: Some(bucket),
                key: Some("k"),
                bucket_policy: None,
                context: &[],
                public_blocked: true,
            };
            identity::decide_s3(Some(&grant), &question, None).allowed
        };
        assert_eq!((may("s3:GetObject", "shared"), may("s3:PutObject", "shared")), (reads, writes), "{right}");
        assert!(!may("s3:GetObject", "other") && !may("s3:PutObject", "other") && !may("s3:PutBucketPolicy", "shared"));
    }
    refused_field(&world.call("POST", &users, &json!({ "right": "own" })).await, "right");
    refused_field(&world.call("POST", &users, &json!({ "right": "all", "description": "\n" })).await, "description");
    assert_eq!(world.identity.users(&world.project).await.expect("users").len(), 3);
}

#[tokio::test]
async fn access_is_a_token_of_one_user_that_is_made_for_it() {
    let world = World::new().await;
    let path = world.path("/storage/access");
    let (one, two) = tokio::join!(world.done("POST", &path, &NONE), world.done("POST", &path, &NONE));
    let three = world.done("POST", &path, &NONE).await;
    for answer in [&one, &two, &three] {
        assert_eq!(answer["endpoints"][0]["region"], "GRA");
        assert_eq!(answer["endpoints"][0]["url"], format!("http://127.0.0.1:9000/v1/AUTH_{}", world.project));
        let token = answer["token"].as_str().expect("a token");
        let grant = world.identity.find_user_token(token).await.expect("found").expect("a grant");
        assert!(grant.project == world.project && grant.is_plain());
    }
    let users = world.identity.users(&world.project).await.expect("users");
    assert_eq!(users.len(), 1, "{users:?}");
}

#[tokio::test]
async fn urls_end_within_seven_days_and_are_signed_by_keys_that_are_good() {
    let world = World::new().await;
    world.done("POST", &world.path("/region/GRA/storage"), &json!({ "name": "files" })).await;
    let public = world.path("/storage/files/publicUrl");
    let at = |seconds: i64| (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();
    for wrong in [at(-5), at(604_900), "tomorrow".to_owned()] {
        let body = json!({ "expirationDate": wrong, "objectName": "a" });
        refused_field(&world.call("POST", &public, &body).await, "expirationDate");
    }
    refused_field(
        &world.call("POST", &public, &json!({ "expirationDate": at(60), "objectName": "" })).await,
        "objectName",
    );
    let absent = world.call("POST", &public, &json!({ "expirationDate": at(60), "objectName": "a" })).await;
    refused(&absent, 404, "NOT_FOUND");

    let presign = world.path("/region/GRA/storage/files/presign");
    let access = |answer: &Value| {
        let url = url::Url::parse(answer["url"].as_str().expect("a URL")).expect("a URL");
        let credential = url.query_pairs().find(|(name, _)| name == "X-Amz-Credential").expect("a credential").1;
        credential.split('/').next().unwrap_or_default().to_owned()
    };
    let body = json!({ "expire": 60, "method": "DELETE", "object": "a", "storageClass": "STANDARD" });
    let first = world.done("POST", &presign, &body).await;
    assert_eq!(first["method"], "DELETE");
    let by = audit::Actor::operator();
    world.identity.disable_s3_key(&world.project, &access(&first), &by).await.expect("disabled");
    let second = world.done("POST", &presign, &body).await;
    assert_ne!(access(&first), access(&second), "a key that was disabled signs no more");
    let class = json!({ "expire": 60, "method": "GET", "object": "a", "storageClass": "GLACIER" });
    refused_field(&world.call("POST", &presign, &class).await, "storageClass");
}
