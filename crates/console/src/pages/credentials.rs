//! All that is good for the account, and the end of any of it.

use crate::{
    view::{Cell, Form, Outcome, Part, Stop, Table, View},
    visit::{Visit, encoded, text},
};

/// The list.
pub(crate) async fn page(visit: Visit) -> Result<Outcome, Stop> {
    let live = visit.read("/1.0/me/api/live").await?;
    let rows = live.as_array().into_iter().flatten().map(|one| {
        let (kind, id) = (text(&one["kind"]), text(&one["id"]));
        let button = Form::button(
            PATH,
            "revoke",
            &[("kind", kind.as_str()), ("id", id.as_str())],
            format!("Revoke {kind}:{id}"),
        );
        let mut cells = vec![Cell::Text(format!("{kind}:{id}"))];
        cells.extend(["holder", "name", "creation", "expiration", "lastUse"].map(|name| Cell::Text(text(&one[name]))));
        cells.push(Cell::Button(button));
        cells
    });
    let table = Table {
        caption: "All that is good for the account".to_owned(),
        head: vec!["Credential", "Of", "Name", "Created", "Ends", "Last use", "Revoke"],
        rows: rows.collect(),
        empty: "Nothing is good now.",
    };
    let note = "What is revoked ends at once, with all that was made by it. The last use is some seconds late.";
    Ok(View::new("Credentials", vec![Part::Text(note.to_owned()), Part::Table(table)]).into())
}

/// Ends one.
pub(crate) async fn revoke(visit: Visit) -> Result<Outcome, Stop> {
    let path = format!("/1.0/me/api/live/{}/{}", encoded(visit.form("kind")), encoded(visit.form("id")));
    visit.api("DELETE", &path, &[], None).await?.done()?;
    Ok(Outcome::Redirect { to: PATH.to_owned(), cookie: None })
}

const PATH: &str = "/console/credentials";
