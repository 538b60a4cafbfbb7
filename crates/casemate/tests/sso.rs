//! Single sign-on at a real Keycloak, through its own log-in form (CTL-3).

#[path = "support/keycloak.rs"]
mod keycloak;
mod support;

use std::{fs, process::Command};

use keycloak::{Browser, Keycloak, Page};
use serde_json::{Value, json};
use support::{CASEMATE, Stack, text};

const SECRET: &str = "what-casemate-is-known-by-there";
const PASSWORD: &str = "the long password of Alice";

#[tokio::test(flavor = "multi_thread")]
async fn people_come_in_by_keycloak_with_the_groups_that_the_account_has() {
    let stack = Stack::configured(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n[sso]\nprivate_providers = true\n",
    );
    let keycloak = Keycloak::start().await;
    let api = stack.text("api");
    keycloak.create_realm(&realm(&api)).await;
    let accounts = operate(&stack, &["account", "list"]);
    let account = accounts[0]["id"].as_str().expect("an account");

    // The administrator of the account says who vouches for its people, and makes the group that they are in.
    let issuer = format!("{}/realms/casemate", keycloak.url);
    call(&stack, "POST", "/me/identity/group", &json!({ "name": "analysts", "role": "ADMIN" }));
    let provider = json!({ "issuer": issuer, "clientId": "casemate", "clientSecret": SECRET });
    let made = call(&stack, "POST", "/me/identity/provider/oidc", &provider);
    assert_eq!(made["redirectUri"], format!("{api}/console/sso/oidc/callback"));
    assert!(!made.to_string().contains(SECRET), "{made}");

    let mut browser = Browser::default();
    let page = log_in(&mut browser, &api, &format!("{account}/idp"), "alice").await;
    assert_eq!((page.url.authority(), page.url.path(), page.status), (authority(&api), "/console", 200), "{page:?}");
    assert!(page.html.contains("alice"), "the page says who it is: {page:?}");
    let listed = operate(&stack, &["credential", "list"]);
    let sessions: Vec<&Value> = listed.as_array().expect("a list").iter().filter(|one| is_session(one)).collect();
    assert_eq!(sessions.len(), 1, "{listed}");
    assert_eq!(sessions[0]["of"], "alice");
    assert!(browser.cookie(&api, "casemate").is_some_and(|secret| secret.len() == 64));
    assert!(browser.cookie(&api, "casemate-sso").is_none(), "it was good once");

    // Somebody whom Keycloak knows, and who is in no group of the account.
    let mut other = Browser::default();
    let page = log_in(&mut other, &api, account, "bob").await;
    assert_eq!(page.status, 403, "{page:?}");
    assert!(page.html.contains("Not in valid groups"), "{page:?}");
    assert!(other.cookie(&api, "casemate").is_none());

    by_saml(&stack, &keycloak, account).await;

    let log = fs::read_to_string(stack.dir.join("up.log")).expect("the log");
    for secret in [SECRET, PASSWORD] {
        assert!(!log.contains(secret), "a secret in the log of the service");
    }
}

/// The same people at the same Keycloak by SAML, which reads our metadata's certificate and holds our requests against it.
async fn by_saml(stack: &Stack, keycloak: &Keycloak, account: &str) {
    let api = stack.text("api");
    call(stack, "DELETE", "/me/identity/provider/oidc", &Value::Null);
    let metadata = format!("{}/realms/casemate/protocol/saml/descriptor", keycloak.url);
    let made = call(stack, "POST", "/me/identity/provider", &json!({ "metadata": metadata, "signRequests": true }));
    assert_eq!(made["ssoServiceUrl"], format!("{}/realms/casemate/protocol/saml", keycloak.url));
    let entity = format!("{api}/console/sso/saml/metadata/{account}");
    let ours = Browser::default().get(&entity).await.html;
    let certificate = ours.split_once("X509Certificate>").and_then(|(_, rest)| rest.split_once('<'));
    let certificate = certificate.expect("a certificate in our metadata").0;
    keycloak.create_client("casemate", &saml_client(&api, &entity, certificate)).await;

    let mut browser = Browser::default();
    let page = log_in(&mut browser, &api, account, "alice").await;
    // A page whose form a script of Keycloak sends.
    assert_eq!(page.form().action.path(), "/console/sso/saml/acs", "{page:?}");
    let after = browser.submit(&page, &[]).await;
    assert_eq!((after.url.authority(), after.url.path()), (authority(&api), "/console"), "{after:?}");
    let listed = operate(stack, &["credential", "list"]);
    let sessions: Vec<&Value> = listed.as_array().expect("a list").iter().filter(|one| is_session(one)).collect();
    assert_eq!((sessions.len(), &sessions[0]["of"]), (1, &json!("alice")), "the one by OpenID Connect ended: {listed}");

    // Sent again, and by another browser that began a log-in of its own.
    let again = browser.submit(&page, &[]).await;
    assert_eq!(again.status, 403, "{again:?}");
    let mut other = Browser::default();
    let bobs = log_in(&mut other, &api, account, "bob").await;
    assert_eq!(other.submit(&page, &[]).await.status, 403);
    let refused = other.submit(&bobs, &[]).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(other.cookie(&api, "casemate").is_none());
    let mut third = Browser::default();
    let page = log_in(&mut third, &api, account, "bob").await;
    let page = third.submit(&page, &[]).await;
    assert!(page.status == 403 && page.html.contains("Not in valid groups"), "{page:?}");
}

/// Casemate as Keycloak knows it by SAML.
fn saml_client(api: &str, entity: &str, certificate: &str) -> Value {
    json!({
        "clientId": entity, "protocol": "saml", "enabled": true, "fullScopeAllowed": true, "frontchannelLogout": true,
        "redirectUris": [format!("{api}/console/sso/saml/acs")],
        "attributes": {
            "saml.authnstatement": "true", "saml.force.post.binding": "true", "saml.encrypt": "false",
            "saml.server.signature": "true", "saml.assertion.signature": "true", "saml.signature.algorithm": "RSA_SHA256",
            "saml.client.signature": "true", "saml.signing.certificate": certificate,
            "saml_name_id_format": "username", "saml_force_name_id_format": "true",
        },
        "protocolMappers": [{
            "name": "groups", "protocol": "saml", "protocolMapper": "saml-group-membership-mapper",
            "config": { "attribute.name": "http://schemas.xmlsoap.org/claims/Group", "attribute.nameformat": "Basic",
                        "single": "true", "full.path": "false" },
        }],
    })
}

fn is_session(credential: &Value) -> bool {
    credential["credential"].as_str().is_some_and(|name| name.starts_with("console:"))
}

/// Logs in through the form of Keycloak; where the browser is then.
async fn log_in(browser: &mut Browser, api: &str, account: &str, user: &str) -> Page {
    let page = browser.get(&format!("{api}/console/sso")).await;
    let page = browser.submit(&page, &[("account", account)]).await;
    assert!(page.url.path().starts_with("/realms/casemate/"), "{page:?}");
    browser.submit(&page, &[("username", user), ("password", PASSWORD)]).await
}

/// The realm: two people, two groups, one client.
fn realm(api: &str) -> Value {
    let user = |name: &str, group: &str| {
        json!({
            "username": name, "enabled": true, "email": format!("{name}@example.org"), "emailVerified": true,
            "firstName": name, "lastName": "of the test", "groups": [group],
            "credentials": [{ "type": "password", "value": PASSWORD, "temporary": false }],
        })
    };
    json!({
        "realm": "casemate", "enabled": true, "sslRequired": "none",
        "groups": [{ "name": "analysts" }, { "name": "strangers" }],
        "users": [user("alice", "/analysts"), user("bob", "/strangers")],
        "clients": [{
            "clientId": "casemate", "protocol": "openid-connect", "publicClient": false, "secret": SECRET,
            "standardFlowEnabled": true, "redirectUris": [format!("{api}/console/sso/oidc/callback")],
            "attributes": { "pkce.code.challenge.method": "S256" },
            "protocolMappers": [{
                "name": "groups", "protocol": "openid-connect", "protocolMapper": "oidc-group-membership-mapper",
                "config": { "claim.name": "groups", "full.path": "false", "id.token.claim": "true",
                            "access.token.claim": "false", "userinfo.token.claim": "false" },
            }],
        }],
    })
}

/// A call of the API by the first account.
fn call(stack: &Stack, method: &str, path: &str, body: &Value) -> Value {
    let script = "import os, sys, json, ovh\n\
        ovh.client.ENDPOINTS['casemate'] = os.environ['ENDPOINT']\n\
        c = ovh.Client(endpoint='casemate', application_key=os.environ['APPLICATION_KEY'],\n\
        \x20   application_secret=os.environ['APPLICATION_SECRET'], consumer_key=os.environ['CONSUMER_KEY'])\n\
        print(json.dumps(c.call(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), True)))\n";
    let mut command = Command::new(support::python());
    let output = stack.tell(command.args(["-c", script, method, path, &body.to_string()])).output().expect("it runs");
    assert!(output.status.success(), "{method} {path}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A command of the operator.
fn operate(stack: &Stack, arguments: &[&str]) -> Value {
    let data = stack.dir.join("data");
    let output = Command::new(CASEMATE).args(arguments).args(["--output", "json", "--data"]).arg(&data).output();
    let output = output.expect("casemate runs");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn authority(url: &str) -> &str {
    url.split_once("://").expect("a URL").1
}
