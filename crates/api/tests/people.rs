//! Users of an account, their groups and their set-up links, from outside (CTL-1, CTL-4).

mod support;

use api::ROUTES;
use audit::Actor;
use http::StatusCode;
use identity::{GroupRole, NewPerson};
use serde_json::{Value, json};
use support::{World, form, refused, refused_field};

const GOOD: &str = "correct horse battery staple";

fn user(login: &str, group: &str) -> Value {
    json!({ "login": login, "email": "a@example.org", "description": "d", "group": group, "password": GOOD })
}

#[tokio::test]
async fn a_user_lives_as_the_old_service_says() {
    let world = World::new().await;
    let users = "/1.0/me/identity/user";
    assert_eq!(world.done("GET", users, &Value::Null).await, json!([]));
    assert_eq!(world.done("POST", users, &user("alice@example.org", "DEFAULT")).await, Value::Null);
    assert_eq!(world.done("GET", users, &Value::Null).await, json!(["alice@example.org"]));
    let one = format!("{users}/alice%40example.org");
    let alice = world.done("GET", &one, &Value::Null).await;
    assert_eq!(alice["status"], "PASSWORD_CHANGE_REQUIRED");
    assert_eq!(alice["urn"], format!("urn:v1:eu:identity:user:{}/alice@example.org", world.account));
    let mut fields: Vec<&String> = alice.as_object().expect("an object").keys().collect();
    fields.sort();
    let expected =
        ["creation", "description", "email", "group", "lastUpdate", "login", "passwordLastUpdate", "status", "urn"];
    assert_eq!(fields, expected);

    refused(&world.call("POST", users, &user("alice@example.org", "DEFAULT")).await, 409, "CONFLICT");
    // A client sends back all that it read; what is read only is ignored.
    let mut changed = alice.clone();
    changed["email"] = json!("b@example.org");
    changed["login"] = json!("mallory");
    changed["group"] = json!("UNPRIVILEGED");
    world.done("PUT", &one, &changed).await;
    let read = world.done("GET", &one, &Value::Null).await;
    assert_eq!((&read["email"], &read["login"]), (&json!("b@example.org"), &json!("alice@example.org")));
    assert_eq!((&read["group"], &read["description"]), (&json!("UNPRIVILEGED"), &json!("d")));
    refused_field(&world.call("PUT", &one, &json!({ "group": "NOBODY" })).await, "group");

    world.done("POST", &format!("{one}/disable"), &Value::Null).await;
    assert_eq!(world.done("GET", &one, &Value::Null).await["status"], "DISABLED");
    world.done("POST", &format!("{one}/enable"), &Value::Null).await;
    assert_eq!(world.done("GET", &one, &Value::Null).await["status"], "PASSWORD_CHANGE_REQUIRED");
    world.done("DELETE", &one, &Value::Null).await;
    for (method, path) in [("GET", one.clone()), ("DELETE", one.clone()), ("POST", format!("{one}/enable"))] {
        refused(&world.call(method, &path, &Value::Null).await, 404, "NOT_FOUND");
    }
    assert!(!world.whole_log().await.contains(GOOD), "a password is in the audit log");
}

#[tokio::test]
async fn what_a_user_cannot_be_is_refused_by_its_field() {
    let world = World::new().await;
    let users = "/1.0/me/identity/user";
    let long = "x".repeat(65);
    for login in ["", "a b", "a/b", "é", long.as_str()] {
        refused_field(&world.call("POST", users, &user(login, "DEFAULT")).await, "login");
    }
    refused_field(&world.call("POST", users, &user("bob", "NOBODY")).await, "group");
    for password in ["", "short", "passwordpassword", "Password12345!", "aaaaaaaaaaaaaaaa"] {
        let mut body = user("bob", "DEFAULT");
        body["password"] = json!(password);
        refused_field(&world.call("POST", users, &body).await, "password");
    }
    for email in ["nobody", "@", "a b@c"] {
        let mut body = user("bob", "DEFAULT");
        body["email"] = json!(email);
        refused_field(&world.call("POST", users, &body).await, "email");
    }
    for body in [json!({}), json!([]), json!({ "login": "bob" }), json!({ "login": 5, "password": GOOD })] {
        refused(&world.call("POST", users, &body).await, 400, "BAD_REQUEST");
    }
    assert_eq!(world.done("GET", users, &Value::Null).await, json!([]), "nothing of them is kept");
}

#[tokio::test]
async fn three_groups_are_always_there_and_others_come_and_go() {
    let world = World::new().await;
    let groups = "/1.0/me/identity/group";
    let built_in = json!(["ADMIN", "DEFAULT", "UNPRIVILEGED"]);
    assert_eq!(world.done("GET", groups, &Value::Null).await, built_in);
    for (name, role) in [("ADMIN", "ADMIN"), ("DEFAULT", "REGULAR"), ("UNPRIVILEGED", "UNPRIVILEGED")] {
        let path = format!("{groups}/{name}");
        let group = world.done("GET", &path, &Value::Null).await;
        assert_eq!((group["role"].as_str(), group["defaultGroup"].as_bool()), (Some(role), Some(name == "DEFAULT")));
        refused(&world.call("DELETE", &path, &Value::Null).await, 409, "CONFLICT");
        refused_field(&world.call("PUT", &path, &json!({ "role": "NONE" })).await, "role");
        world.done("PUT", &path, &json!({ "description": "ours", "role": role })).await;
        assert_eq!(world.done("GET", &path, &Value::Null).await["description"], "ours");
    }
    let made = world.done("POST", groups, &json!({ "name": "ops/on call", "role": "NONE" })).await;
    assert_eq!(made["urn"], format!("urn:v1:eu:identity:group:{}/ops/on%20call", world.account));
    assert_eq!(made["description"], Value::Null);
    refused(&world.call("POST", groups, &json!({ "name": "ops/on call", "role": "NONE" })).await, 409, "CONFLICT");
    let path = format!("{groups}/ops%2Fon%20call");
    world.done("POST", "/1.0/me/identity/user", &user("bob", "ops/on call")).await;
    refused(&world.call("DELETE", &path, &Value::Null).await, 409, "CONFLICT");
    world.done("DELETE", "/1.0/me/identity/user/bob", &Value::Null).await;
    world.done("DELETE", &path, &Value::Null).await;
    assert_eq!(world.done("GET", groups, &Value::Null).await, built_in);
    for body in [
        json!({ "name": "", "role": "NONE" }),
        json!({ "name": " x", "role": "NONE" }),
        json!({ "name": "x", "role": "ROOT" }),
    ] {
        refused(&world.call("POST", groups, &body).await, 400, "BAD_REQUEST");
    }
}

#[tokio::test]
async fn a_user_of_another_account_does_not_exist() {
    let world = World::new().await;
    let by = Actor::operator();
    let other = "cd5678-casemate".parse().expect("an account");
    world.identity.create_account(&other, "", "", &by).await.expect("an account");
    let new = NewPerson { login: "carol".to_owned(), group: "ADMIN".to_owned(), ..NewPerson::default() };
    world.identity.create_person(&other, new, &by).await.expect("a user");
    world.identity.create_group(&other, "theirs", None, GroupRole::None, &by).await.expect("a group");
    for route in ROUTES.iter().filter(|route| route.path.starts_with("/me/identity/") && route.path.contains('{')) {
        let path = format!("/1.0{}", route.path.replace("{user}", "carol").replace("{group}", "theirs"));
        let answer = world.call(route.method.as_str(), &path, &json!({})).await;
        refused(&answer, 404, "NOT_FOUND");
    }
    assert_eq!(world.identity.people(Some(&other)).await.expect("listed").len(), 1);
}

#[tokio::test]
async fn who_is_not_an_administrator_may_nothing_and_who_is_gone_is_nobody() {
    let world = World::new().await;
    let users = "/1.0/me/identity/user";
    for (login, group) in [("root", "ADMIN"), ("reader", "DEFAULT"), ("guest", "UNPRIVILEGED")] {
        world.done("POST", users, &user(login, group)).await;
    }
    let root = world.key_of_user("root").await;
    assert_eq!(world.call_as(&root, "GET", users, &Value::Null).await.status, StatusCode::OK);
    let details = world.call_as(&root, "GET", "/1.0/auth/details", &Value::Null).await.body;
    assert_eq!(
        (&details["method"], &details["user"], &details["roles"]),
        (&json!("user"), &json!("root"), &json!(["ADMIN"]))
    );
    let account = &world.account;
    assert_eq!(
        details["identities"],
        json!([format!("urn:v1:eu:identity:user:{account}/root"), format!("urn:v1:eu:identity:group:{account}/ADMIN")])
    );
    for login in ["reader", "guest"] {
        let keys = world.key_of_user(login).await;
        assert_eq!(world.call_as(&keys, "GET", "/1.0/cloud/project", &Value::Null).await.body, json!([]));
        for path in ["/1.0/me", users, &world.path("")] {
            let answer = world.call_as(&keys, "GET", path, &Value::Null).await;
            refused(&answer, 403, "FORBIDDEN");
            assert_eq!(answer.body["message"], "User not granted for this request");
        }
        let foreign = format!("/1.0/cloud/project/{}", "0".repeat(32));
        refused(&world.call_as(&keys, "GET", &foreign, &Value::Null).await, 404, "NOT_FOUND");
        let own = world.call_as(&keys, "GET", "/1.0/auth/details", &Value::Null).await;
        assert_eq!(own.body["user"], login);
    }
    // What a user granted is good as long as the user is.
    world.done("POST", &format!("{users}/root/disable"), &Value::Null).await;
    refused(&world.call_as(&root, "GET", users, &Value::Null).await, 403, "INVALID_CREDENTIAL");
    world.done("POST", &format!("{users}/root/enable"), &Value::Null).await;
    refused(&world.call_as(&root, "GET", users, &Value::Null).await, 403, "INVALID_CREDENTIAL");
    let root = world.key_of_user("root").await;
    assert_eq!(world.call_as(&root, "GET", users, &Value::Null).await.status, StatusCode::OK);
    world.done("DELETE", &format!("{users}/root"), &Value::Null).await;
    refused(&world.call_as(&root, "GET", users, &Value::Null).await, 403, "INVALID_CREDENTIAL");
    world.done("POST", users, &user("root", "ADMIN")).await;
    refused(&world.call_as(&root, "GET", users, &Value::Null).await, 403, "INVALID_CREDENTIAL");
}

#[tokio::test]
async fn a_set_up_link_sets_a_password_once() {
    let world = World::new().await;
    let by = Actor::operator();
    let new = NewPerson { login: "root".to_owned(), group: "ADMIN".to_owned(), ..NewPerson::default() };
    world.identity.create_person(&world.account, new, &by).await.expect("a user");
    let old = world.identity.create_setup(&world.account, "root", &by).await.expect("a link");
    let link = world.identity.create_setup(&world.account, "root", &by).await.expect("a link");
    let granted = world.key_of_user("root").await;
    let users = "/1.0/me/identity/user";
    assert_eq!(world.call_as(&granted, "GET", users, &Value::Null).await.status, StatusCode::OK);
    let path = |token: &str| format!("/1.0/auth/setup/{token}");
    for wrong in [old.token.as_str(), "x", &"0".repeat(64)] {
        for answer in [
            world.send(support::get(&path(wrong))).await,
            world.form(&path(wrong), &[("password", GOOD), ("again", GOOD)]).await,
        ] {
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            assert!(!answer.text.contains(world.account.as_str()), "{}", answer.text);
        }
    }
    let page = world.send(support::get(&path(&link.token))).await;
    assert!(page.status == StatusCode::OK && page.text.contains("<form method=\"post\""), "{}", page.text);
    assert!(!page.text.contains("<script") && !page.text.contains("style"));
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert_eq!(policy, "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");

    let path = path(&link.token);
    for (password, again) in
        [(GOOD, "another good password"), ("short", "short"), ("passwordpassword", "passwordpassword")]
    {
        let answer = world.form(&path, &[("password", password), ("again", again)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
        assert!(answer.text.contains("role=\"alert\"") && !answer.text.contains(GOOD));
    }
    // Another site's page cannot send it, nor can it be sent as something else.
    let text = format!("password={0}&again={0}", support::encoded(GOOD));
    for (name, value, status) in [
        ("sec-fetch-site", "cross-site", 403),
        ("origin", "https://evil.example.org", 403),
        ("content-type", "application/json", 415),
    ] {
        let mut request = form(&path, &text);
        request.headers_mut().insert(name, value.parse().expect("a header"));
        assert_eq!(world.send(request).await.status.as_u16(), status, "{name}");
    }
    let answer = world.form(&path, &[("password", GOOD), ("again", GOOD)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let root = world.done("GET", "/1.0/me/identity/user/root", &Value::Null).await;
    assert_eq!(root["status"], "OK");
    // What was granted under the lost password ended with it.
    refused(&world.call_as(&granted, "GET", users, &Value::Null).await, 403, "INVALID_CREDENTIAL");
    assert_eq!(world.form(&path, &[("password", GOOD), ("again", GOOD)]).await.status, StatusCode::NOT_FOUND);
    let log = world.whole_log().await;
    assert!(log.contains("USER_PASSWORD_CHANGED") && !log.contains(GOOD) && !log.contains(link.token.as_str()));
}
