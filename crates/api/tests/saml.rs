//! The provider of single sign-on of an account by SAML, and its pages, from outside (CTL-3).

mod support;

use http::{StatusCode, header};
use serde_json::{Value, json};
use support::{World, form, get, refused, refused_field};

const PROVIDER: &str = "/1.0/me/identity/provider";
const CERTIFICATE: &str = include_str!("../../identity/src/sso/saml/tests/fixtures/certificate.txt");

fn metadata() -> String {
    format!(
        "<md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"https://idp.example/\">\
         <md:IDPSSODescriptor protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\"><md:KeyDescriptor>\
         <ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data><ds:X509Certificate>{CERTIFICATE}\
         </ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService \
         Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"https://idp.example/sso\"/>\
         </md:IDPSSODescriptor></md:EntityDescriptor>"
    )
}

#[tokio::test]
async fn a_provider_lives_as_the_old_service_says() {
    let world = World::new().await;
    for (method, body) in [("GET", Value::Null), ("PUT", json!({})), ("DELETE", Value::Null)] {
        refused(&world.call(method, PROVIDER, &body).await, 404, "NOT_FOUND");
    }
    let wanted = json!({ "requestedAttributes": [
        { "isRequired": true, "name": "group", "nameFormat": null, "values": ["a", "b"] },
        { "isRequired": false, "name": "upn", "nameFormat": "urn:f", "values": null },
    ]});
    let made = world.done("POST", PROVIDER, &json!({ "metadata": metadata(), "extensions": wanted })).await;
    let mut fields: Vec<&String> = made.as_object().expect("an object").keys().collect();
    fields.sort();
    let expected = [
        "creation",
        "disableUsers",
        "extensions",
        "groupAttributeName",
        "idpSigningCertificates",
        "lastUpdate",
        "signRequests",
        "ssoServiceUrl",
        "userAttributeName",
    ];
    assert_eq!(fields, expected);
    assert_eq!(made["groupAttributeName"], "http://schemas.xmlsoap.org/claims/Group");
    assert_eq!(made["ssoServiceUrl"], "https://idp.example/sso");
    assert_eq!(made["idpSigningCertificates"][0]["subject"], "CN=idp.example");
    assert_eq!((&made["disableUsers"], &made["signRequests"]), (&json!(false), &json!(false)));
    assert_eq!(made["extensions"], wanted, "what was written is read back");
    assert_eq!(world.done("GET", PROVIDER, &Value::Null).await, made);
    refused(&world.call("POST", PROVIDER, &json!({ "metadata": metadata() })).await, 409, "CONFLICT");

    // A client sends back all that it read; what is read only is ignored.
    let mut changed = made.clone();
    (changed["groupAttributeName"], changed["ssoServiceUrl"]) = (json!("groups"), json!("https://evil.example/"));
    changed["signRequests"] = json!(true);
    world.done("PUT", PROVIDER, &changed).await;
    let read = world.done("GET", PROVIDER, &Value::Null).await;
    assert_eq!((&read["groupAttributeName"], &read["ssoServiceUrl"]), (&json!("groups"), &made["ssoServiceUrl"]));
    assert_eq!((&read["signRequests"], &read["extensions"]), (&json!(true), &wanted));
    world.done("PUT", PROVIDER, &json!({ "extensions": null })).await;
    assert_eq!(world.done("GET", PROVIDER, &Value::Null).await["extensions"], Value::Null);
    world.done("DELETE", PROVIDER, &Value::Null).await;
    refused(&world.call("GET", PROVIDER, &Value::Null).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn what_a_provider_cannot_be_is_refused_by_its_field_and_kept_nowhere() {
    let world = World::new().await;
    let long = "x".repeat(257);
    let many = json!({ "requestedAttributes": vec![json!({ "isRequired": true, "name": "a" }); 51] });
    for (field, value) in [
        ("metadata", json!("")),
        ("metadata", json!("<a/>")),
        ("metadata", json!(format!("<!DOCTYPE a>{}", metadata()))),
        ("metadata", json!("http://192.0.2.1/metadata")),
        ("metadata", json!(metadata().replace("https://idp.example/sso", "javascript:alert(1)"))),
        ("groupAttributeName", json!("")),
        ("groupAttributeName", json!(long)),
        ("userAttributeName", json!("a\nb")),
        ("extensions", many),
    ] {
        let mut body = json!({ "metadata": metadata() });
        body[field] = value;
        refused_field(&world.call("POST", PROVIDER, &body).await, field);
    }
    for body in [json!({}), json!([]), json!({ "metadata": 5 }), json!({ "metadata": metadata(), "extensions": [1] })] {
        refused(&world.call("POST", PROVIDER, &body).await, 400, "BAD_REQUEST");
    }
    refused(&world.call("GET", PROVIDER, &Value::Null).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn administrators_alone_say_who_vouches_for_people() {
    let world = World::new().await;
    let user = json!({
        "login": "alice", "email": "a@example.org", "description": "", "group": "DEFAULT", "password": "correct horse battery",
    });
    world.done("POST", "/1.0/me/identity/user", &user).await;
    let policy = json!({
        "name": "all", "identities": [format!("urn:v1:eu:identity:user:{}/alice", world.account)],
        "resources": [{ "urn": "urn:v1:eu:resource:*" }], "permissions": { "allow": [{ "action": "*" }] },
    });
    world.done("POST", "/v2/iam/policy", &policy).await;
    let alice = world.key_of_user("alice").await;
    world.done("POST", PROVIDER, &json!({ "metadata": metadata() })).await;
    assert_eq!(world.call_as(&alice, "GET", PROVIDER, &Value::Null).await.status, StatusCode::OK);
    for method in ["POST", "PUT", "DELETE"] {
        refused(&world.call_as(&alice, method, PROVIDER, &json!({ "metadata": metadata() })).await, 403, "FORBIDDEN");
    }
}

#[tokio::test]
async fn our_metadata_is_public_once_there_is_a_provider() {
    let world = World::new().await;
    let path = format!("/console/sso/saml/metadata/{}", world.account);
    for path in [path.as_str(), "/console/sso/saml/metadata/ab0000-nobody"] {
        assert_eq!(world.send(get(path)).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(world.send(get("/console/sso/saml/metadata/%00")).await.status, StatusCode::BAD_REQUEST);
    world.done("POST", PROVIDER, &json!({ "metadata": metadata(), "signRequests": true })).await;
    let answer = world.send(get(&path)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/samlmetadata+xml");
    for part in [&format!("entityID=\"https://api.example.org{path}\""), "/console/sso/saml/acs\"", "X509Certificate"] {
        assert!(answer.text.contains(part), "{part}: {}", answer.text);
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_opens_nothing() {
    let world = World::new().await;
    world.done("POST", PROVIDER, &json!({ "metadata": metadata() })).await;
    let acs = "/console/sso/saml/acs";
    for fields in [
        "",
        "SAMLResponse=&RelayState=",
        "SAMLResponse=PGEvPg%3D%3D&RelayState=https%3A%2F%2Fevil.example%2F",
        "RelayState=%2F%2Fevil.example",
    ] {
        let answer = world.send(form(acs, fields)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{fields}: {answer:?}");
        assert!(!answer.headers.contains_key(header::LOCATION), "{fields}");
        assert!(!answer.text.contains("evil"), "{fields}: {}", answer.text);
        let cookies = answer.headers.get_all(header::SET_COOKIE).iter();
        let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().expect("text")).collect();
        assert!(cookies.iter().all(|cookie| cookie.contains("Max-Age=0")), "{cookies:?}");
    }
    for wrong in ["SAMLResponse=%ff", "SAMLResponse=a&SAMLResponse=b"] {
        assert_eq!(world.send(form(acs, wrong)).await.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let mut bare = form(acs, "SAMLResponse=a");
    bare.headers_mut().remove(header::CONTENT_TYPE);
    assert_eq!(world.send(bare).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
