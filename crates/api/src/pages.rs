//! Pages for people: forms without a script, good under a policy that allows nothing but to send the form back here.

use http::StatusCode;

use crate::{ApiError, percent, request::Call, request::Reply};

/// A page: its title, and what is below it as HTML.
pub(crate) fn page(title: &str, body: &str) -> Reply {
    let title = escape(title);
    Reply::page(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title} · Casemate</title></head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n",
    ))
}

/// A page that says why it went no further.
pub(crate) fn refusal(status: StatusCode, title: &str, body: &str) -> Reply {
    page(title, body).with_status(status)
}

/// A form that is sent to `action`, relative to its page; empty: to the address of the page.
pub(crate) fn form(action: &str, fields: &str) -> String {
    let action = if action.is_empty() { String::new() } else { format!(" action=\"{}\"", escape(action)) };
    format!("<form method=\"post\"{action} accept-charset=\"utf-8\">\n{fields}</form>\n")
}

/// A field of a form, with its label and what is in it already. `kind` and `autocomplete` are those of HTML.
pub(crate) fn field(name: &str, label: &str, kind: &str, autocomplete: &str, filled: &str, required: bool) -> String {
    let required = if required { " required" } else { "" };
    let filled = if filled.is_empty() { String::new() } else { format!(" value=\"{}\"", escape(filled)) };
    format!(
        "<p><label for=\"{name}\">{}</label><br>\n\
         <input id=\"{name}\" name=\"{name}\" type=\"{kind}\" autocomplete=\"{autocomplete}\" maxlength=\"1024\"{filled}{required}></p>\n",
        escape(label)
    )
}

/// What a person filled into a form of ours. It comes from a page of ours, or from no browser at all: a page of another
/// site cannot send it in a person's name.
pub(crate) fn read_form(call: &Call) -> Result<Vec<(String, String)>, ApiError> {
    let fields = read_foreign_form(call)?;
    // <https://www.w3.org/TR/fetch-metadata/>; browsers of before it send `Origin` with each POST.
    let elsewhere = call.header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    // A page of ours says `null`, because it tells nobody where it was. The scheme is that of the proxy in front.
    let host = |url: &str| url.split_once("://").map(|(_, host)| host.to_owned());
    let foreign = call.header("origin").is_some_and(|origin| origin != "null" && host(origin) != host(&call.base_url));
    if elsewhere || foreign {
        return Err(ApiError::refused("The form was sent by a page of another site"));
    }
    Ok(fields)
}

/// What somebody filled into a form of whatever site: whoever takes it must know by other means that it was meant.
pub(crate) fn read_foreign_form(call: &Call) -> Result<Vec<(String, String)>, ApiError> {
    let kind = call.header("content-type").unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    {
        return Err(ApiError::not_form());
    }
    parse_form(&call.body)
}

/// The fields of a form, each once.
pub(crate) fn parse_form(body: &[u8]) -> Result<Vec<(String, String)>, ApiError> {
    let unreadable = || ApiError::bad_request("The body is not a form that can be read");
    let text = std::str::from_utf8(body).map_err(|_| unreadable())?;
    let mut fields: Vec<(String, String)> = Vec::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = percent::decode(name, true).map_err(|_| unreadable())?;
        let value = percent::decode(value, true).map_err(|_| unreadable())?;
        if fields.len() >= MOST_FIELDS || fields.iter().any(|(known, _)| *known == name) {
            return Err(unreadable());
        }
        fields.push((name, value));
    }
    Ok(fields)
}

/// The value of a field; empty where there is none.
pub(crate) fn value<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
    fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

const MOST_FIELDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_whole_or_not_at_all() {
        let fields = parse_form(b"login=a%2Fb&password=p+q%26&empty=").expect("read");
        assert_eq!((value(&fields, "login"), value(&fields, "password")), ("a/b", "p q&"));
        assert_eq!((value(&fields, "empty"), value(&fields, "absent")), ("", ""));
        for wrong in [&b"a=1&a=2"[..], b"a=%ff", b"a=%0", b"\xff=1"] {
            assert!(parse_form(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_others_wrote_is_text_in_a_page() {
        let reply = page("<b>", "");
        assert!(matches!(reply.body, crate::request::ReplyBody::Page(html) if html.contains("<h1>&lt;b&gt;</h1>")));
    }
}
