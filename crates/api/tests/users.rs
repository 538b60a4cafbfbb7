//! Users of a project by the API: passwords, roles, policies, keys, tokens and the files of their clients (OBJ-3).

mod support;

use serde_json::{Value, json};
use support::{World, refused, refused_field};

const NONE: Value = Value::Null;

/// A user of the world's project: its path and what was answered when it was made.
async fn user(world: &World, body: &Value) -> (String, Value) {
    let made = world.done("POST", &world.path("/user"), body).await;
    (world.path(&format!("/user/{}", made["id"])), made)
}

#[tokio::test]
async fn a_password_is_shown_once_and_opens_until_there_is_another() {
    let world = World::new().await;
    let (path, made) = user(&world, &json!({ "description": "loads data", "unknown": 1 })).await;
    let first = made["password"].as_str().expect("a password").to_owned();
    assert!(first.len() >= 32, "{made}");
    assert_eq!(made["roles"][0]["name"], "objectstore_operator");
    assert_eq!((&made["status"], &made["openstackId"]), (&json!("ok"), &made["username"]));
    let shown = world.done("GET", &path, &NONE).await;
    assert!(shown.get("password").is_none(), "{shown}");
    assert!(!world.done("GET", &world.path("/user"), &NONE).await.to_string().contains(&first));

    let token = world.done("POST", &format!("{path}/token"), &json!({ "password": first })).await;
    let text = token["X-Auth-Token"].as_str().expect("a token").to_owned();
    let grant = world.identity.find_user_token(&text).await.expect("found").expect("a grant");
    assert_eq!(grant.project, world.project);
    let described = &token["token"];
    assert_eq!(described["user"]["name"], made["username"]);
    assert_eq!(described["project"]["id"], world.project.as_str());
    let url = format!("http://127.0.0.1:9000/v1/AUTH_{}", world.project);
    assert_eq!(described["catalog"][0]["endpoints"][0]["url"], url);
    assert_eq!(described["catalog"][1]["endpoints"][0]["url"], "http://127.0.0.1:9000/v3");

    let second = world.done("POST", &format!("{path}/regeneratePassword"), &NONE).await;
    assert!(second["password"].as_str().is_some_and(|password| password != first && !password.is_empty()), "{second}");
    assert!(world.identity.find_user_token(&text).await.expect("found").is_none(), "its tokens ended");
    let old = world.call("POST", &format!("{path}/token"), &json!({ "password": first })).await;
    refused(&old, 403, "FORBIDDEN");
    assert!(old.body["details"]["password"].is_string() && !old.body.to_string().contains(&first), "{old:?}");
    world.done("POST", &format!("{path}/token"), &json!({ "password": second["password"] })).await;
    refused(&world.call("POST", &format!("{path}/token"), &json!({})).await, 400, "BAD_REQUEST");
}

#[tokio::test]
async fn who_guesses_passwords_has_to_wait() {
    let world = World::new().await;
    let (path, _) = user(&world, &NONE).await;
    let mut last = None;
    for number in 0..50 {
        let answer = world.call("POST", &format!("{path}/token"), &json!({ "password": format!("no {number}") })).await;
        let waits = answer.status.as_u16() == 429;
        last = Some(answer);
        if waits {
            break;
        }
    }
    refused(&last.expect("an answer"), 429, "TOO_MANY_REQUESTS");
}

#[tokio::test]
async fn what_a_user_cannot_be_is_refused_with_the_field() {
    let world = World::new().await;
    let users = world.path("/user");
    for (body, field) in [
        (json!({ "description": "x".repeat(256) }), "description"),
        (json!({ "description": "two\nlines" }), "description"),
        (json!({ "description": "Signs the presigned URLs of the API" }), "description"),
        (json!({ "role": "emperor" }), "role"),
        (json!({ "roles": ["administrator", "emperor"] }), "roles"),
        (json!({ "roles": vec!["administrator"; 14] }), "roles"),
    ] {
        refused_field(&world.call("POST", &users, &body).await, field);
    }
    assert_eq!(world.done("GET", &users, &NONE).await, json!([]), "none of them is there");
    refused(&world.call("GET", &world.path("/user/1x"), &NONE).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn roles_come_and_go_and_say_what_they_include() {
    let world = World::new().await;
    let all = world.done("GET", &world.path("/role"), &NONE).await;
    let id = |name: &str| {
        let roles = all["roles"].as_array().expect("roles");
        roles.iter().find(|role| role["name"] == name).expect("a role")["id"].clone()
    };
    let storage = all["services"].as_array().expect("services").iter().find(|one| one["name"] == "objectstore");
    assert_eq!(storage.expect("a service")["permissions"][0]["roles"], json!(["objectstore_operator"]));

    let (path, made) = user(&world, &json!({ "role": "authentication", "roles": ["compute_operator"] })).await;
    let names = |roles: &Value| -> Vec<String> {
        let roles = roles.as_array().expect("roles");
        roles.iter().map(|role| role["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&made["roles"]), ["compute_operator", "authentication"]);
    let role = format!("{path}/role");
    let more = world.done("POST", &role, &json!({ "roleId": id("objectstore_operator") })).await;
    assert_eq!(names(&more["roles"]).len(), 3);
    assert_eq!(more["password"], "", "it is not known any more");
    // Two at once: none is lost.
    let (one, two) = (json!({ "roleId": id("volume_operator") }), json!({ "roleId": id("image_operator") }));
    let (one, two) = tokio::join!(world.call("POST", &role, &one), world.call("POST", &role, &two));
    assert!(one.status.is_success() && two.status.is_success());
    assert_eq!(names(&world.done("GET", &role, &NONE).await).len(), 5);

    let gone = format!("{role}/{}", id("compute_operator").as_str().expect("an id"));
    assert_eq!(world.done("GET", &gone, &NONE).await["name"], "compute_operator");
    world.done("DELETE", &gone, &NONE).await;
    refused(&world.call("GET", &gone, &NONE).await, 404, "NOT_FOUND");
    refused(&world.call("DELETE", &gone, &NONE).await, 404, "NOT_FOUND");
    let only = world.done("PUT", &role, &json!({ "rolesIds": [id("admin")] })).await;
    assert_eq!(names(&only["roles"]), ["admin"]);
    refused_field(&world.call("POST", &role, &json!({ "roleId": "0".repeat(32) })).await, "roleId");
    refused_field(&world.call("PUT", &role, &json!({ "rolesIds": ["x"] })).await, "rolesIds");
    refused_field(&world.call("PUT", &role, &json!({ "rolesIds": vec![id("admin"); 14] })).await, "rolesIds");
    assert_eq!(names(&world.done("GET", &role, &NONE).await), ["admin"]);
}

#[tokio::test]
async fn a_policy_is_kept_as_it_was_set_or_refused_with_its_place() {
    let world = World::new().await;
    let (path, made) = user(&world, &NONE).await;
    let policy = format!("{path}/policy");
    let key = world.done("POST", &format!("{path}/s3Credentials"), &NONE).await;
    let access = key["access"].as_str().expect("an access key").to_owned();
    let is_plain = || async { world.identity.find_s3_key(&access).await.expect("found").expect("a grant").is_plain() };
    assert_eq!(world.done("GET", &policy, &NONE).await, json!({ "policy": "" }));
    assert!(is_plain().await);

    let text = "{\"Version\":\"2012-10-17\", \"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"s3:GetObject\",\
                \"Resource\":\"arn:aws:s3:::data/*\"}]}";
    assert_eq!(world.done("POST", &policy, &json!({ "policy": text })).await, NONE);
    assert_eq!(world.done("GET", &policy, &NONE).await["policy"], text);
    assert!(!is_plain().await);
    for (wrong, place) in [
        ("{", "policy"),
        ("{\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"s3:Fly\",\"Resource\":\"*\"}]}", "statement 1, Action"),
        ("{\"Statement\":[{\"Effect\":\"Maybe\",\"Action\":\"s3:*\",\"Resource\":\"*\"}]}", "statement 1, Effect"),
        (&" ".repeat(21_000), "20480 bytes"),
    ] {
        let answer = world.call("POST", &policy, &json!({ "policy": wrong })).await;
        refused_field(&answer, "policy");
        assert!(answer.body["message"].as_str().is_some_and(|words| words.contains(place)), "{answer:?}");
    }
    refused(&world.call("POST", &policy, &json!({ "policy": 1 })).await, 400, "BAD_REQUEST");
    assert_eq!(world.done("GET", &policy, &NONE).await["policy"], text, "what is refused changes nothing");
    // What Terraform sets when a policy is destroyed: it allows nothing, and so does not widen.
    world.done("POST", &policy, &json!({ "policy": "{\"Statement\":[]}" })).await;
    assert!(!is_plain().await);
    world.done("POST", &policy, &json!({ "policy": "" })).await;
    assert!(is_plain().await);
    assert_eq!(made["id"], world.done("GET", &path, &NONE).await["id"]);
}

/// Whether the object gate would know a key.
async fn works(world: &World, access: &str) -> bool {
    world.identity.find_s3_key(access).await.expect("found").is_some()
}

#[tokio::test]
async fn a_key_is_disabled_enabled_and_rotated() {
    let world = World::new().await;
    let (path, _) = user(&world, &NONE).await;
    let keys = format!("{path}/s3Credentials");
    let made = world.done("POST", &keys, &NONE).await;
    let access = made["access"].as_str().expect("an access key");
    let key = format!("{keys}/{access}");
    let secret = || async { world.done("POST", &format!("{key}/secret"), &NONE).await["secret"].clone() };
    assert_eq!(secret().await, made["secret"]);
    assert_eq!(world.done("GET", &key, &NONE).await["enabled"], true);

    world.done("POST", &format!("{key}/disable"), &NONE).await;
    assert!(!works(&world, access).await);
    assert_eq!(secret().await, made["secret"], "a disabled key has a secret too");
    let shown = world.done("GET", &keys, &NONE).await;
    assert_eq!((&shown[0]["access"], &shown[0]["enabled"]), (&made["access"], &json!(false)));
    assert!(!shown.to_string().contains(made["secret"].as_str().expect("a secret")));

    let next = world.done("POST", &format!("{key}/rotate"), &NONE).await;
    let next_access = next["access"].as_str().expect("an access key");
    assert!(next_access != access && next["secret"].is_string() && next["userId"] == made["userId"], "{next}");
    assert!(works(&world, next_access).await && !works(&world, access).await);
    world.done("POST", &format!("{key}/enable"), &NONE).await;
    assert!(works(&world, access).await);
    world.done("DELETE", &key, &NONE).await;
    assert!(!works(&world, access).await);
    for verb in ["disable", "enable", "rotate", "secret"] {
        refused(&world.call("POST", &format!("{key}/{verb}"), &NONE).await, 404, "NOT_FOUND");
    }
    // Another user's key is not this one's.
    let (other, _) = user(&world, &NONE).await;
    let foreign = format!("{other}/s3Credentials/{next_access}");
    for (method, rest) in [("GET", ""), ("DELETE", ""), ("POST", "/disable"), ("POST", "/secret")] {
        refused(&world.call(method, &format!("{foreign}{rest}"), &NONE).await, 404, "NOT_FOUND");
    }
    assert!(works(&world, next_access).await);
}

#[tokio::test]
async fn files_of_clients_have_what_they_need_and_no_secret() {
    let world = World::new().await;
    let (path, made) = user(&world, &NONE).await;
    let key = world.done("POST", &format!("{path}/s3Credentials"), &NONE).await;
    let (name, project) = (made["username"].as_str().expect("a name"), world.project.as_str());
    let access = key["access"].as_str().expect("an access key");
    for (file, lines) in [
        ("configuration", vec![format!("username: \"{name}\""), "region_name: \"GRA\"".to_owned()]),
        (
            "openrc?region=GRA&version=v3",
            vec![
                "export OS_AUTH_URL=http://127.0.0.1:9000/v3".to_owned(),
                format!("export OS_PROJECT_ID={project}"),
                format!("export OS_USERNAME=\"{name}\""),
                "export OS_REGION_NAME=\"GRA\"".to_owned(),
            ],
        ),
        // Terraform asks so, and puts a region of its own.
        ("openrc?region=to_be_overriden", vec![format!("export OS_TENANT_NAME=\"{project}\"")]),
        ("rclone?region=gra", vec!["type = swift".to_owned(), format!("user = {name}"), "region = GRA".to_owned()]),
        (
            "rclone?region=GRA&service=storage-s3",
            vec!["endpoint = http://127.0.0.1:9000".to_owned(), format!("access_key_id = {access}")],
        ),
    ] {
        let content = world.done("GET", &format!("{path}/{file}"), &NONE).await;
        let content = content["content"].as_str().expect("a content");
        for line in lines {
            assert!(content.lines().any(|found| found.trim() == line), "{file}: {line}\n{content}");
        }
        for secret in [&made["password"], &key["secret"]] {
            assert!(!content.contains(secret.as_str().expect("a secret")), "{file}");
        }
    }
    for (file, field) in [
        ("configuration?region=MARS", "region"),
        ("openrc", "region"),
        ("openrc?region=%24%28reboot%29", "region"),
        ("openrc?region=GRA&version=v2.0", "version"),
        ("openrc?region=GRA&version=4", "version"),
        ("rclone", "region"),
        ("rclone?region=MARS", "region"),
        ("rclone?region=GRA&service=ftp", "service"),
    ] {
        refused_field(&world.call("GET", &format!("{path}/{file}"), &NONE).await, field);
    }
}
