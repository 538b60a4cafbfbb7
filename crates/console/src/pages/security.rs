//! The second factors and sessions of the user who is logged in.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    view::{Cell, Field, Form, Outcome, Part, Stop, Table, View},
    visit::{Visit, encoded, facts, text},
};

/// The page.
pub(crate) async fn page(visit: Visit) -> Result<Outcome, Stop> {
    let mut parts = match totps(&visit).await {
        Ok(mut parts) => {
            parts.extend(keys(&visit).await?);
            parts
        }
        // One for whom a provider vouches has its second factors there; the API says so.
        Err(stop) if stop.status == StatusCode::FORBIDDEN => {
            stop.sentences.into_iter().take(1).map(Part::Text).collect()
        }
        Err(stop) => return Err(stop),
    };
    parts.push(Part::Table(sessions(&visit).await?));
    Ok(View::new(TITLE, parts).into())
}

/// Does what the button says, by the API.
pub(crate) async fn submit(visit: Visit) -> Result<Outcome, Stop> {
    let id = encoded(visit.form("id"));
    let code = json!({ "code": visit.form("code") });
    let made = match visit.form("assertion") {
        "" => json!({}),
        text => {
            attestation(text).ok_or_else(|| Stop::new(StatusCode::BAD_REQUEST, "The security key gave no answer."))?
        }
    };
    let (totp, backup) = ("/1.0/me/accessRestriction/totp", "/1.0/me/accessRestriction/backupCode");
    let (method, path, body) = match visit.form("do") {
        "totp-create" => ("POST", totp.to_owned(), None),
        "totp-delete" => ("DELETE", format!("{totp}/{id}"), None),
        "totp-validate" => ("POST", format!("{totp}/{id}/validate"), Some(&code)),
        "totp-enable" => ("POST", format!("{totp}/{id}/enable"), Some(&code)),
        "totp-disable" => ("POST", format!("{totp}/{id}/disable"), Some(&code)),
        "backup-create" => ("POST", backup.to_owned(), None),
        "backup-delete" => ("DELETE", backup.to_owned(), None),
        "backup-validate" => ("POST", format!("{backup}/validate"), Some(&code)),
        "backup-enable" => ("POST", format!("{backup}/enable"), Some(&code)),
        "backup-disable" => ("POST", format!("{backup}/disable"), Some(&code)),
        "key-create" => ("POST", KEYS.to_owned(), None),
        "key-validate" => ("POST", format!("{KEYS}/{id}/validate"), Some(&made)),
        "key-enable" => ("POST", format!("{KEYS}/{id}/enable"), None),
        "key-disable" => ("POST", format!("{KEYS}/{id}/disable"), None),
        "key-delete" => ("DELETE", format!("{KEYS}/{id}"), None),
        "session-end" => ("DELETE", format!("/1.0/me/api/session/{id}"), None),
        _ => return Err(Stop::new(StatusCode::BAD_REQUEST, "The form does not say what to do.")),
    };
    let done = visit.api(method, &path, &[], body).await?.done()?;
    match visit.form("do") {
        "totp-create" => {
            let form = Form::button(PATH, "totp-validate", &[("id", text(&done["id"]).as_str())], "Validate")
                .with(Field::code(""));
            let note = "Put this secret into an authenticator app, and give a code of it. It is not shown again.";
            let secret = vec![text(&done["secret"]), text(&done["qrcodeHelper"])];
            let parts = vec![Part::Text(note.to_owned()), Part::List(secret), Part::Form(form)];
            Ok(View::new("A new generator of one-time codes", parts).into())
        }
        "backup-create" => {
            let codes: Vec<String> = done["codes"].as_array().into_iter().flatten().map(text).collect();
            let form = Form::button(PATH, "backup-validate", &[], "Validate").with(Field::code(""));
            let note = "Keep these codes; each is good once, and they are not shown again. Give one of them to make them good.";
            Ok(View::new("Backup codes", vec![Part::Text(note.to_owned()), Part::List(codes), Part::Form(form)]).into())
        }
        "key-create" => {
            let mut form = Form::button(PATH, "key-validate", &[("id", text(&done["id"]).as_str())], "");
            form.buttons.clear();
            form.keys.push(("register", creation(&done).to_string(), "Ask the security key"));
            let note =
                "Have the security key or this device's passkeys at hand. Without a script this cannot be done here.";
            Ok(View::new("A new security key", vec![Part::Text(note.to_owned()), Part::Form(form)]).into())
        }
        _ => Ok(Outcome::Redirect { to: PATH.to_owned(), cookie: None }),
    }
}

/// What the Web Authentication API is asked for to make a key, from what the API began.
fn creation(begun: &Value) -> Value {
    let kinds = [-8, -7, -257].map(|algorithm| json!({ "type": "public-key", "alg": algorithm }));
    json!({
        "challenge": begun["challenge"],
        "rp": { "id": begun["rpId"], "name": begun["rpName"] },
        "user": { "id": begun["userId"], "name": begun["userName"], "displayName": begun["userDisplayName"] },
        "pubKeyCredParams": kinds,
        "excludeCredentials": begun["excludeCredentials"],
        "authenticatorSelection": { "residentKey": "preferred", "userVerification": "preferred" },
    })
}

/// What a browser's `PublicKeyCredential.toJSON` says of a new key, as the API takes it.
fn attestation(text: &str) -> Option<Value> {
    let made: Value = serde_json::from_str(text).ok()?;
    let response = &made["response"];
    Some(json!({
        "rawId": made["rawId"].as_str()?,
        "clientDataJSON": response["clientDataJSON"].as_str()?,
        "attestationObject": response["attestationObject"].as_str()?,
    }))
}

async fn keys(visit: &Visit) -> Result<Vec<Part>, Stop> {
    let ids = visit.read(KEYS).await?;
    let mut parts = vec![Part::Heading("Security keys and passkeys".to_owned())];
    for id in ids.as_array().into_iter().flatten() {
        let id = text(id);
        let key = visit.read(&format!("{KEYS}/{}", encoded(&id))).await?;
        let names = [
            ("Key", "id"),
            ("Description", "description"),
            ("Status", "status"),
            ("Created", "creationDate"),
            ("Last use", "lastUsedDate"),
        ];
        parts.push(Part::Facts(facts(&key, &names)));
        let form =
            |does: &str, text: &str| Form::button(PATH, does, &[("id", id.as_str())], format!("{text} key {id}"));
        match key["status"].as_str() {
            Some("enabled") => parts.push(Part::Form(form("key-disable", "Disable"))),
            Some("disabled") => {
                parts.push(Part::Form(form("key-enable", "Enable")));
                parts.push(Part::Form(form("key-delete", "Remove")));
            }
            _ => parts.push(Part::Form(form("key-delete", "Remove"))),
        }
    }
    parts.push(Part::Form(Form::button(PATH, "key-create", &[], "Register a security key or passkey")));
    Ok(parts)
}

async fn totps(visit: &Visit) -> Result<Vec<Part>, Stop> {
    let ids = visit.read("/1.0/me/accessRestriction/totp").await?;
    let mut parts = vec![Part::Heading("One-time codes".to_owned())];
    for id in ids.as_array().into_iter().flatten() {
        let id = text(id);
        let totp = visit.read(&format!("/1.0/me/accessRestriction/totp/{}", encoded(&id))).await?;
        parts.push(Part::Facts(facts(
            &totp,
            &[("Generator", "id"), ("Status", "status"), ("Created", "creationDate"), ("Last use", "lastUsedDate")],
        )));
        let form =
            |does: &str, text: &str| Form::button(PATH, does, &[("id", id.as_str())], format!("{text} generator {id}"));
        let with_code = |does, text| Part::Form(form(does, text).with(Field::code(&format!("-totp-{id}"))));
        match totp["status"].as_str() {
            Some("enabled") => parts.push(with_code("totp-disable", "Disable")),
            Some("disabled") => parts.push(with_code("totp-enable", "Enable")),
            _ => parts.push(with_code("totp-validate", "Validate")),
        }
        if totp["status"] != "enabled" {
            parts.push(Part::Form(form("totp-delete", "Remove")));
        }
    }
    parts.push(Part::Form(Form::button(PATH, "totp-create", &[], "Make a generator of one-time codes")));
    parts.push(Part::Heading("Backup codes".to_owned()));
    let answer = visit.api("GET", "/1.0/me/accessRestriction/backupCode", &[], None).await?;
    let has_codes = answer.status != StatusCode::NOT_FOUND;
    if has_codes {
        let codes = answer.done()?;
        parts.push(Part::Facts(facts(
            &codes,
            &[("Status", "status"), ("Left", "remaining"), ("Created", "creationDate"), ("Last use", "lastUsedDate")],
        )));
        let with_code = |does, text: &str| Part::Form(Form::button(PATH, does, &[], text).with(Field::code("-backup")));
        match codes["status"].as_str() {
            Some("enabled") => parts.push(with_code("backup-disable", "Disable the backup codes")),
            Some("disabled") => parts.push(with_code("backup-enable", "Enable the backup codes")),
            _ => parts.push(with_code("backup-validate", "Validate the backup codes")),
        }
        if codes["status"] != "enabled" {
            parts.push(Part::Form(Form::button(PATH, "backup-delete", &[], "Remove the backup codes")));
        }
    }
    parts.push(Part::Form(Form::button(PATH, "backup-create", &[], "Make new backup codes")));
    Ok(parts)
}

async fn sessions(visit: &Visit) -> Result<Table, Stop> {
    let sessions = visit.read("/1.0/me/api/session").await?;
    let own = match visit.session.as_ref().map(|session| &session.caller.proof) {
        Some(identity::Proof::Session { id }) => Some(*id),
        _ => None,
    };
    let rows = sessions.as_array().into_iter().flatten().map(|session| {
        let id = text(&session["sessionId"]);
        let is_this = own.is_some() && session["sessionId"].as_i64() == own;
        let mut cells = vec![Cell::Text(if is_this { format!("{id} (this one)") } else { id.clone() })];
        let names = ["ip", "userAgent", "mfaType", "creation", "lastUse", "expiration"];
        cells.extend(names.map(|name| Cell::Text(text(&session[name]))));
        cells.push(Cell::Button(Form::button(
            PATH,
            "session-end",
            &[("id", id.as_str())],
            format!("End session {id}"),
        )));
        cells
    });
    Ok(Table {
        caption: "Your sessions".to_owned(),
        head: vec!["Session", "Address", "Program", "Second factor", "Opened", "Last use", "Ends", "End it"],
        rows: rows.collect(),
        empty: "There is none.",
    })
}

/// Where the API has the security keys of its caller.
const KEYS: &str = "/1.0/me/accessRestriction/u2f";
const PATH: &str = "/console/security";
const TITLE: &str = "Your security";
