//! Who is logged in, and the projects; the stylesheet.

use crate::{
    view::{Cell, Outcome, Part, Stop, Table, View},
    visit::{Visit, encoded, text},
};

/// The stylesheet of all pages.
pub(crate) async fn style(_: Visit) -> Result<Outcome, Stop> {
    Ok(Outcome::File { kind: "text/css; charset=utf-8", bytes: include_str!("../../static/console.css") })
}

/// Who is logged in, and the projects that it may see.
pub(crate) async fn page(visit: Visit) -> Result<Outcome, Stop> {
    let who = visit.read("/1.0/auth/details").await?;
    let page = Pages::of(&visit);
    let answer = visit.api("GET", "/1.0/cloud/project", &page.headers(), None).await?;
    let total = answer.number("x-pagination-total").unwrap_or(1);
    let rows = answer.done()?;
    let rows = rows.as_array().into_iter().flatten().map(|project| {
        let id = text(&project["project_id"]);
        vec![
            Cell::Link { to: format!("/console/projects/{}", encoded(&id)), text: text(&project["projectName"]) },
            Cell::Text(id),
            Cell::Text(text(&project["creationDate"])),
        ]
    });
    let table = Table {
        caption: "Projects".to_owned(),
        head: vec!["Name", "Id", "Created"],
        rows: rows.collect(),
        empty: "There is no project that you may see.",
    };
    let facts = vec![
        ("Account".to_owned(), text(&who["account"])),
        ("User".to_owned(), text(&who["user"])),
        ("Logged in as".to_owned(), text(&who["method"])),
        ("Role".to_owned(), text(&who["roles"])),
        ("Policies name you".to_owned(), text(&who["identities"])),
    ];
    Ok(View::new("Projects", vec![Part::Facts(facts), Part::Table(table), page.links("/console", total)]).into())
}

/// Which page of a list is asked for, by its number.
pub(crate) struct Pages {
    number: String,
}

impl Pages {
    /// That of the query.
    pub fn of(visit: &Visit) -> Pages {
        let number = visit.query("page").parse::<u32>().ok().filter(|number| (1..=1_000_000).contains(number));
        Pages { number: number.unwrap_or(1).to_string() }
    }

    /// The headers by which the API gives it.
    pub fn headers(&self) -> [(&str, &str); 3] {
        [
            ("x-pagination-mode", "CachedObjectList-Pages"),
            ("x-pagination-size", SIZE),
            ("x-pagination-number", &self.number),
        ]
    }

    /// Links to the pages beside it.
    pub fn links(&self, path: &str, total: u64) -> Part {
        let number: u64 = self.number.parse().unwrap_or(1);
        let link = |number: u64, text: &str| (format!("{path}?page={number}"), text.to_owned());
        let mut links = Vec::new();
        if number > 1 {
            links.push(link(number - 1, "Page before"));
        }
        if number < total {
            links.push(link(number + 1, "Next page"));
        }
        Part::Links(links)
    }
}

const SIZE: &str = "50";
