//! Policies, and why a call is allowed or not.

use serde_json::{Value, json};

use crate::{
    view::{Cell, Field, Form, Outcome, Part, Stop, Table, View},
    visit::{Visit, encoded, text},
};

/// The policies of the account.
pub(crate) async fn policies(visit: Visit) -> Result<Outcome, Stop> {
    let headers = [("x-pagination-size", "50"), ("x-pagination-cursor", visit.query("cursor"))];
    let answer = visit.api("GET", "/v2/iam/policy", &headers, None).await?;
    let next = answer.headers.get(NEXT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let rows = answer.done()?;
    let actions = |list: &Value| {
        let names = list.as_array().into_iter().flatten().map(|one| text(&one["action"]));
        names.collect::<Vec<_>>().join(", ")
    };
    let rows = rows.as_array().into_iter().flatten().map(|policy| {
        let permissions = &policy["permissions"];
        let resources = policy["resources"].as_array().into_iter().flatten().map(|one| text(&one["urn"]));
        vec![
            Cell::Link {
                to: format!("/console/iam/policies/{}", encoded(&text(&policy["id"]))),
                text: text(&policy["name"]),
            },
            Cell::Text(text(&policy["identities"])),
            Cell::Text(resources.collect::<Vec<_>>().join(", ")),
            Cell::Text(actions(&permissions["allow"])),
            Cell::Text(actions(&permissions["except"])),
            Cell::Text(actions(&permissions["deny"])),
            Cell::Text(text(&policy["expiredAt"])),
        ]
    });
    let table = Table {
        caption: "Policies".to_owned(),
        head: vec!["Name", "Identities", "Resources", "Allow", "Except", "Deny", "Expires"],
        rows: rows.collect(),
        empty: "There is no policy: who is not the account or an administrator may nothing.",
    };
    let links = next.map(|next| (format!("/console/iam?cursor={}", encoded(&next)), "Next page".to_owned()));
    Ok(View::new("Policies", vec![Part::Table(table), Part::Links(links.into_iter().collect())]).into())
}

/// A policy as it was written.
pub(crate) async fn policy(visit: Visit) -> Result<Outcome, Stop> {
    let policy = visit.read(&format!("/v2/iam/policy/{}", encoded(visit.param("policy")))).await?;
    let text_of_it = serde_json::to_string_pretty(&policy).unwrap_or_default();
    let lines = Part::Lines { label: "The policy".to_owned(), text: text_of_it };
    let links = Part::Links(vec![("/console/iam".to_owned(), "All policies".to_owned())]);
    Ok(View::new(format!("Policy {}", text(&policy["name"])), vec![lines, links]).into())
}

/// Why a call is allowed or not: one that could be made, or one that was.
pub(crate) async fn explain(visit: Visit) -> Result<Outcome, Stop> {
    let given = |name: &'static str| visit.query(name).trim();
    let mut parts = Vec::new();
    let body = match (given("request"), given("identity")) {
        ("", "") => None,
        ("", identity) => {
            let mut body = json!({ "identity": identity, "action": given("action"), "resource": given("resource") });
            for (field, name) in [("at", "at"), ("sourceIp", "source_ip")] {
                if !given(name).is_empty() {
                    body[field] = given(name).into();
                }
            }
            Some(body)
        }
        (request, _) => Some(json!({ "requestId": request })),
    };
    let mut status = http::StatusCode::OK;
    if let Some(body) = body {
        match visit.api("POST", "/v2/iam/explain", &[], Some(&body)).await?.done() {
            Ok(told) => parts.extend(explanation(&told)),
            Err(stop) => {
                status = stop.status;
                parts.extend(stop.sentences.into_iter().map(Part::Alert));
            }
        }
    }
    let field = |name: &'static str, label: &str| Field { value: given(name).to_owned(), ..Field::text(name, label) };
    let form = |fields, button: &str| {
        Part::Form(Form {
            method: "get",
            action: "/console/iam/explain".to_owned(),
            hidden: Vec::new(),
            fields,
            keys: Vec::new(),
            buttons: vec![("", "", button.to_owned())],
        })
    };
    parts.push(Part::Heading("A call that could be made".to_owned()));
    let fields = vec![
        field("identity", "Identity: the URN of a user, a group, a service account, an account or a user of a project"),
        field(
            "action",
            "Action, such as publicCloudProject:apiovh:dataProcessing/jobs/create or storageS3:s3:GetObject",
        ),
        field("resource", "Resource: the URN of the account, of a project, or of a bucket or an object of one"),
        field("at", "Time, such as 2026-05-01T12:00:00Z; now when empty"),
        field("source_ip", "Address from which the call comes, if policies ask for it"),
    ];
    parts.push(form(fields, "Explain"));
    parts.push(Part::Heading("A call that was made".to_owned()));
    parts.push(form(vec![field("request", "Request: the X-Ovh-QueryID of its answer")], "Explain the request"));
    Ok(View::new("Explain a right", parts).with_status(status).into())
}

fn explanation(told: &Value) -> Vec<Part> {
    let verdict = if told["allowed"] == true { "Allowed" } else { "Denied" };
    let mut parts = vec![
        Part::Heading(format!("{verdict}: {}", text(&told["action"]))),
        Part::Facts(vec![
            ("Resource".to_owned(), text(&told["resource"])),
            ("Identities".to_owned(), text(&told["identities"])),
            ("At".to_owned(), text(&told["at"])),
            ("From".to_owned(), text(&told["sourceIp"])),
        ]),
    ];
    if !told["recorded"].is_null() {
        let (decision, reason) = (text(&told["recorded"]["decision"]), text(&told["recorded"]["reason"]));
        parts.push(Part::Text(format!("Recorded then: {decision}, {reason}")));
    }
    let list = |name: &str| told[name].as_array().cloned().unwrap_or_default();
    let (deciding, spoke) = (list("deciding"), list("spoke"));
    let overruled = spoke.iter().filter(|one| !deciding.contains(one)).map(ruling).collect();
    let missed = list("missed").iter().map(|one| format!("{}: {}", ruling(one), text(&one["because"]))).collect();
    let steps: Vec<String> = list("steps")
        .iter()
        .map(|step| {
            let applies = if step["matched"] == true { "applies" } else { "does not apply" };
            let effect = if step["allow"] == true { "Allow" } else { "Deny" };
            let (statement, policy) = (text(&step["statement"]), text(&step["policy"]));
            format!("{effect}: statement {statement} of {policy} {applies}: {}", text(&step["because"]))
        })
        .collect();
    for (title, lines) in [
        ("What decided", told["reason"].as_str().map(str::to_owned).into_iter().collect()),
        ("Decided by", deciding.iter().map(ruling).collect()),
        ("Overruled", overruled),
        ("Did not speak", missed),
        ("In the AWS language", steps),
        ("What would have to change", list("change").iter().map(text).collect::<Vec<_>>()),
    ] {
        if !lines.is_empty() {
            parts.push(Part::Heading(title.to_owned()));
            parts.push(Part::List(lines));
        }
    }
    parts
}

fn ruling(one: &Value) -> String {
    let does = if text(&one["effect"]).eq_ignore_ascii_case("allow") { "allows" } else { "denies" };
    let by = one["permissionsGroup"].as_str().map(|group| format!(" by {group}")).unwrap_or_default();
    format!("policy '{}' ({}), which {does}{by}", text(&one["name"]), text(&one["policy"]))
}

const NEXT: &str = "x-pagination-cursor-next";
