//! A consumer key that an application asked for, granted or refused by the user who is logged in.

use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    view::{Field, Form, Outcome, Part, Stop, View},
    visit::{Visit, encoded, text},
};

/// What the application asks for.
pub(crate) async fn page(visit: Visit) -> Result<Outcome, Stop> {
    let token = encoded(visit.param("token"));
    let asked = asked(&visit, &token).await?;
    let rules = asked["rules"].as_array().into_iter().flatten();
    let rules: Vec<String> = rules.map(|rule| format!("{} {}", text(&rule["method"]), text(&rule["path"]))).collect();
    let blocks = match &asked["allowedIPs"] {
        Value::Null => "every address".to_owned(),
        blocks => text(blocks),
    };
    let (name, number) = (text(&asked["applicationName"]), text(&asked["applicationId"]));
    let who = visit.session.as_ref().map(|session| session.who()).unwrap_or_default();
    let days = Field { kind: "select", options: DAYS.to_vec(), ..Field::text("days", "Granted for") };
    let form = Form {
        method: "post",
        action: format!("/console/grant/{token}"),
        hidden: Vec::new(),
        fields: vec![days],
        keys: Vec::new(),
        buttons: vec![("decision", "grant", "Grant".to_owned()), ("decision", "refuse", "Refuse".to_owned())],
    };
    let parts = vec![
        Part::Text(format!(
            "The application {name} (number {number}) asks to make these calls as {who}, from {blocks}:"
        )),
        Part::List(rules),
        Part::Form(form),
        Part::Text("Grant it only if you sent the application here yourself.".to_owned()),
    ];
    Ok(View::new("An application asks for access", parts).into())
}

/// Grants or refuses it.
pub(crate) async fn submit(visit: Visit) -> Result<Outcome, Stop> {
    let token = encoded(visit.param("token"));
    match visit.form("decision") {
        "grant" => {
            let Some((days, _)) = DAYS.iter().find(|(days, _)| *days == visit.form("days")) else {
                return Err(Stop::new(StatusCode::BAD_REQUEST, "Say until when it is granted."));
            };
            let end = days.parse::<i64>().ok().map(|days| visit.now + SignedDuration::from_hours(24 * days));
            let redirection = asked(&visit, &token).await?["redirection"].as_str().map(str::to_owned);
            let body = json!({ "expiration": end });
            visit.api("POST", &format!("/1.0/auth/validate/{token}/grant"), &[], Some(&body)).await?.done()?;
            let mut parts = vec![Part::Text("The application has access now.".to_owned())];
            if let Some(url) = redirection {
                parts.push(Part::Text("The application asks you to go on at:".to_owned()));
                parts.push(Part::Links(vec![(url.clone(), url)]));
            }
            Ok(View::new("Granted", parts).into())
        }
        "refuse" => {
            visit.api("POST", &format!("/1.0/auth/validate/{token}/refuse"), &[], None).await?.done()?;
            Ok(View::new("Refused", vec![Part::Text("The application gets no access.".to_owned())]).into())
        }
        _ => Err(Stop::new(StatusCode::BAD_REQUEST, "Say whether you grant or refuse it.")),
    }
}

/// What is asked for; one answer for a token that never was, was used, or is too old.
async fn asked(visit: &Visit, token: &str) -> Result<Value, Stop> {
    let answer = visit.api("GET", &format!("/1.0/auth/validate/{token}/request"), &[], None).await?;
    match answer.status {
        StatusCode::NOT_FOUND => {
            let sentence = "This link was used, or its time is over. The application has to ask again.";
            Err(Stop::new(StatusCode::NOT_FOUND, sentence))
        }
        _ => answer.done(),
    }
}

const DAYS: [(&str, &str); 4] =
    [("1", "1 day"), ("30", "30 days"), ("365", "1 year"), ("unlimited", "as long as it is not revoked")];
