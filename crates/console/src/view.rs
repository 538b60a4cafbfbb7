//! What a page is made of: plain data, drawn by one template, so that all that others wrote is escaped in one place.

use askama::Template;
use http::{HeaderValue, StatusCode};

/// What comes of a visit.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A page.
    Page(View),
    /// Another page of the console is to be asked for.
    Redirect {
        /// Its path.
        to: String,
        /// A cookie to set.
        cookie: Option<HeaderValue>,
    },
    /// A file of the program.
    File {
        /// Its type.
        kind: &'static str,
        /// What is in it.
        bytes: &'static str,
    },
}

/// A page without what is around it.
#[derive(Debug)]
pub(crate) struct View {
    /// Its status.
    pub status: StatusCode,
    /// Its heading.
    pub title: String,
    /// What is below it.
    pub parts: Vec<Part>,
}

impl View {
    /// A page that is as it was asked for.
    pub fn new(title: impl Into<String>, parts: Vec<Part>) -> View {
        View { status: StatusCode::OK, title: title.into(), parts }
    }

    /// The same with another status.
    pub fn with_status(mut self, status: StatusCode) -> View {
        self.status = status;
        self
    }
}

impl From<View> for Outcome {
    fn from(view: View) -> Outcome {
        Outcome::Page(view)
    }
}

/// Why a page is not shown.
#[derive(Debug)]
pub(crate) struct Stop {
    /// The status.
    pub status: StatusCode,
    /// What is wrong, and what can be done.
    pub sentences: Vec<String>,
}

impl Stop {
    /// With one sentence.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Stop {
        Stop { status, sentences: vec![sentence.into()] }
    }

    /// The page that says it.
    pub fn view(self) -> View {
        let title = self.status.canonical_reason().unwrap_or("Refused").to_owned();
        View { status: self.status, title, parts: self.sentences.into_iter().map(Part::Alert).collect() }
    }
}

/// A part of a page.
#[derive(Debug)]
pub(crate) enum Part {
    /// A heading.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A paragraph that is read out at once.
    Alert(String),
    /// Names and values.
    Facts(Vec<(String, String)>),
    /// Lines as they are.
    Lines {
        /// What they are.
        label: String,
        /// The text.
        text: String,
    },
    /// A list of texts.
    List(Vec<String>),
    /// A table.
    Table(Table),
    /// Links beside each other.
    Links(Vec<(String, String)>),
    /// A form.
    Form(Form),
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    /// What it shows.
    pub caption: String,
    /// What its columns are.
    pub head: Vec<&'static str>,
    /// Its rows.
    pub rows: Vec<Vec<Cell>>,
    /// What is said if there are none.
    pub empty: &'static str,
}

/// A cell of a table.
#[derive(Debug)]
pub(crate) enum Cell {
    /// Text.
    Text(String),
    /// A link.
    Link {
        /// Where to.
        to: String,
        /// Its text.
        text: String,
    },
    /// A form of one button.
    Button(Form),
}

/// A form. By POST it carries the token of the session.
#[derive(Debug)]
pub(crate) struct Form {
    /// `get` or `post`.
    pub method: &'static str,
    /// Where it is sent.
    pub action: String,
    /// Names and values of what is sent along.
    pub hidden: Vec<(String, String)>,
    /// What is filled in.
    pub fields: Vec<Field>,
    /// Buttons by which a security key answers, which a script brings to life: name, options of the Web Authentication API as
    /// JSON, text.
    pub keys: Vec<(&'static str, String, &'static str)>,
    /// Name, value and text of its buttons.
    pub buttons: Vec<(&'static str, &'static str, String)>,
}

impl Form {
    /// A form of one button that says what to do: `does` is sent as `do`.
    pub fn button(action: &str, does: &str, hidden: &[(&str, &str)], text: impl Into<String>) -> Form {
        let pairs = std::iter::once(("do", does)).chain(hidden.iter().copied());
        Form {
            method: "post",
            action: action.to_owned(),
            hidden: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            fields: Vec::new(),
            keys: Vec::new(),
            buttons: vec![("", "", text.into())],
        }
    }

    /// The same with a field more.
    pub fn with(mut self, field: Field) -> Form {
        self.fields.push(field);
        self
    }
}

/// A field of a form.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name; in a page each once.
    pub name: &'static str,
    /// Its label.
    pub label: String,
    /// The type of HTML, or `select`.
    pub kind: &'static str,
    /// What browsers may fill it with.
    pub autocomplete: &'static str,
    /// What is in it.
    pub value: String,
    /// Values and texts of a `select`.
    pub options: Vec<(&'static str, &'static str)>,
    /// Whether it may not be empty.
    pub required: bool,
    /// What makes its id one in the page, where forms are alike.
    pub suffix: String,
}

impl Field {
    /// A field of text, empty.
    pub fn text(name: &'static str, label: impl Into<String>) -> Field {
        Field {
            name,
            label: label.into(),
            kind: "text",
            autocomplete: "off",
            value: String::new(),
            options: Vec::new(),
            required: false,
            suffix: String::new(),
        }
    }

    /// A field for a one-time code; `suffix` makes its id one in the page.
    pub fn code(suffix: &str) -> Field {
        let suffix = suffix.to_owned();
        Field { autocomplete: "one-time-code", required: true, suffix, ..Field::text("code", "Code") }
    }
}

/// A page with what is around it.
#[derive(Template)]
#[template(path = "page.html")]
pub(crate) struct Layout<'a> {
    /// Its heading.
    pub title: &'a str,
    /// Who is logged in; empty: nobody.
    pub who: &'a str,
    /// The token of the session's forms.
    pub token: &'a str,
    /// The path of the page, to mark it in the menu.
    pub here: &'a str,
    /// What is below the heading.
    pub parts: &'a [Part],
    /// Paths and texts of the menu.
    pub menu: &'a [(&'static str, &'static str)],
}

/// The menu.
pub(crate) const MENU: &[(&str, &str)] = &[
    ("/console", "Projects"),
    ("/console/credentials", "Credentials"),
    ("/console/iam", "Policies"),
    ("/console/iam/explain", "Explain a right"),
    ("/console/audit", "Audit log"),
    ("/console/security", "Your security"),
];
