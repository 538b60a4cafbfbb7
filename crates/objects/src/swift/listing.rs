//! Lists of containers and of objects, in Swift's three forms.

use http::{Response, StatusCode, request::Parts};
use jiff::Timestamp;
use s3s::Body;

use super::{
    Visit,
    answer::{Fault, empty, escaped, text},
    header_text,
};

/// Which part of a list, and in what form.
pub struct Wanted {
    pub form: Form,
    pub prefix: String,
    pub marker: Option<String>,
    pub end: Option<String>,
    pub delimiter: Option<String>,
    pub limit: usize,
    /// Whether names that are rolled up are left out.
    pub objects_only: bool,
}

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Names, one a line.
    Plain,
    Json,
    Xml,
}

impl Wanted {
    /// What a request asks for.
    pub fn new(visit: &Visit<'_>, parts: &Parts) -> Result<Wanted, Fault> {
        let limit = match visit.parameter("limit").filter(|limit| !limit.is_empty()) {
            None => MOST,
            Some(limit) => limit.parse().map_err(|_| Fault::bad("The limit is not a number."))?,
        };
        if limit > MOST {
            let words = format!("Maximum limit is {MOST}.");
            return Err(Fault::new(StatusCode::PRECONDITION_FAILED, words));
        }
        for other in ["reverse", "states", "newest"] {
            if visit.parameter(other).is_some() {
                return Err(Fault::not_offered(&format!("The parameter {other}")));
            }
        }
        let text = |name| visit.parameter(name).filter(|value| !value.is_empty());
        let form = match visit.parameter("format").as_deref() {
            Some("json") => Form::Json,
            Some("xml") => Form::Xml,
            Some("plain") => Form::Plain,
            _ => Form::of(header_text(&parts.headers, "accept").unwrap_or_default()),
        };
        let mut wanted = Wanted {
            form,
            prefix: text("prefix").unwrap_or_default(),
            marker: text("marker"),
            end: text("end_marker"),
            delimiter: text("delimiter"),
            limit,
            objects_only: false,
        };
        if let Some(path) = visit.parameter("path") {
            // An older way to list what is in a directory, and nothing below.
            wanted.prefix = if path.is_empty() { path } else { format!("{}/", path.trim_end_matches('/')) };
            wanted.delimiter = Some("/".to_owned());
            wanted.objects_only = true;
        }
        Ok(wanted)
    }
}

impl Form {
    /// The first form that a client says it takes.
    fn of(accept: &str) -> Form {
        let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
        let mut forms = kinds.filter_map(|kind| match kind {
            "application/json" => Some(Form::Json),
            "application/xml" | "text/xml" => Some(Form::Xml),
            "text/plain" | "text/*" | "*/*" => Some(Form::Plain),
            _ => None,
        });
        forms.next().unwrap_or(Form::Plain)
    }
}

/// A list as it is written, entry by entry.
pub struct List {
    form: Form,
    body: String,
    entries: usize,
    end: &'static str,
}

impl List {
    /// An empty list of the things of `name`: an account has containers, a container has objects.
    pub fn new(form: Form, kind: &'static str, name: &str) -> List {
        let (body, end) = match (form, kind) {
            (Form::Plain, _) => (String::new(), ""),
            (Form::Json, _) => ("[".to_owned(), "]"),
            (Form::Xml, kind) => (
                format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{kind} name=\"{}\">", escaped(name)),
                if kind == "account" { "</account>" } else { "</container>" },
            ),
        };
        List { form, body, entries: 0, end }
    }

    /// Adds an entry: what it is, its name, and what is known of it, in order; `name` stands first.
    pub fn push(&mut self, kind: &str, name: &str, fields: &[(&str, serde_json::Value)]) {
        let label = if kind == "subdir" { "subdir" } else { "name" };
        match self.form {
            Form::Plain => {
                self.body.push_str(name);
                self.body.push('\n');
            }
            Form::Json => {
                if self.entries > 0 {
                    self.body.push(',');
                }
                self.body.push_str(&format!("{{\"{label}\":{}", serde_json::Value::from(name)));
                for (field, value) in fields {
                    self.body.push_str(&format!(",\"{field}\":{value}"));
                }
                self.body.push('}');
            }
            Form::Xml => {
                let attribute = if kind == "subdir" { format!(" name=\"{}\"", escaped(name)) } else { String::new() };
                self.body.push_str(&format!("<{kind}{attribute}><name>{}</name>", escaped(name)));
                for (field, value) in fields {
                    let value = value.as_str().map_or_else(|| value.to_string(), escaped);
                    self.body.push_str(&format!("<{field}>{value}</{field}>"));
                }
                self.body.push_str(&format!("</{kind}>"));
            }
        }
        self.entries += 1;
    }

    /// As an answer. A plain list of nothing has no body, and says so.
    pub fn into_response(mut self) -> Response<Body> {
        if self.form == Form::Plain && self.entries == 0 {
            return empty(StatusCode::NO_CONTENT);
        }
        self.body.push_str(self.end);
        let kind = match self.form {
            Form::Plain => "text/plain; charset=utf-8",
            Form::Json => "application/json; charset=utf-8",
            Form::Xml => "application/xml; charset=utf-8",
        };
        text(StatusCode::OK, kind, self.body)
    }
}

/// A time as lists have it: UTC, without saying so.
pub fn list_time(milliseconds: i64) -> String {
    let at = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// The most entries of an answer; Swift's own limit, on which clients rely.
pub const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_well_formed_whatever_names_are_in_it() {
        for (form, body) in
            [(Form::Plain, "a\"<b\n"), (Form::Json, "[{\"name\":\"a\\\"<b\",\"bytes\":7},{\"subdir\":\"c/\"}]")]
        {
            let mut list = List::new(form, "container", "data");
            list.push("object", "a\"<b", &[("bytes", 7.into())]);
            if form == Form::Json {
                list.push("subdir", "c/", &[]);
            }
            let bytes = list.into_response().into_body().bytes().expect("a body");
            assert_eq!(std::str::from_utf8(&bytes), Ok(body));
        }
        let mut list = List::new(Form::Xml, "container", "data");
        list.push("object", "a\"<\u{1}", &[("bytes", 7.into()), ("hash", "x&y".into())]);
        let bytes = list.into_response().into_body().bytes().expect("a body");
        assert_eq!(
            std::str::from_utf8(&bytes),
            Ok("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<container name=\"data\"><object>\
                <name>a&quot;&lt;\u{fffd}</name><bytes>7</bytes><hash>x&amp;y</hash></object></container>")
        );
    }

    #[test]
    fn the_form_is_that_which_the_client_takes() {
        assert_eq!(Form::of("application/json"), Form::Json);
        assert_eq!(Form::of("application/foo, text/xml;q=0.5, */*"), Form::Xml);
        assert_eq!(Form::of("*/*"), Form::Plain);
        assert_eq!(Form::of(""), Form::Plain);
    }

    #[test]
    fn times_of_lists_have_microseconds_and_no_zone() {
        assert_eq!(list_time(784_111_777_400), "1994-11-06T08:49:37.400000");
    }
}
