//! Lists page by page, as the old console asked for them: by `X-Pagination-*` headers, whole objects instead of ids.

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use jobs::{Filter, FilterOp, JobField, ListQuery};
use model::JobStatus;
use serde_json::Value;

use crate::{
    ApiError, percent,
    request::{Call, Reply},
};

/// How many rows a page by cursor has, of `most` at the most.
pub(crate) fn page_size(call: &Call, most: u32) -> Result<u32, ApiError> {
    match call.header("x-pagination-size").map(str::trim) {
        None | Some("") => Ok(most),
        Some(text) => {
            let size = text.parse::<u32>().ok().filter(|size| (1..=most).contains(size));
            let rule = || format!("a whole number from 1 to {most}");
            size.ok_or_else(|| ApiError::bad_field("X-Pagination-Size", rule()))
        }
    }
}

/// What page a client wishes for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    size: u32,
    /// From 1.
    number: u64,
    sort: Option<String>,
    descending: Option<bool>,
    conditions: Vec<Condition>,
}

/// One part of `X-Pagination-Filter`.
#[derive(Debug, Clone)]
struct Condition {
    field: String,
    op: FilterOp,
    values: Vec<String>,
}

impl Wish {
    /// The wish of a call; `None` where it asks for ids.
    pub fn read(call: &Call) -> Result<Option<Wish>, ApiError> {
        Wish::from_headers(|name| call.header(name))
    }

    fn from_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Wish>, ApiError> {
        match header("x-pagination-mode").map(str::trim) {
            None | Some("") => return Ok(None),
            Some(PAGES) => {}
            Some(_) => return Err(ApiError::bad_field("X-Pagination-Mode", format!("the mode offered is {PAGES}"))),
        }
        let number = |name: &'static str, default: u64, most: u64| match header(name).map(str::trim) {
            None | Some("") => Ok(default),
            Some(text) => text
                .parse::<u64>()
                .ok()
                .filter(|number| (1..=most).contains(number))
                .ok_or_else(|| ApiError::bad_field(name, format!("a whole number from 1 to {most}"))),
        };
        let size = number("X-Pagination-Size", 100, LARGEST_PAGE)?;
        let descending = match header("x-pagination-sort-order").map(str::trim) {
            None | Some("") => None,
            Some(word) if word.eq_ignore_ascii_case("asc") => Some(false),
            Some(word) if word.eq_ignore_ascii_case("desc") => Some(true),
            Some(_) => return Err(ApiError::bad_field("X-Pagination-Sort-Order", "ASC or DESC")),
        };
        Ok(Some(Wish {
            size: u32::try_from(size).unwrap_or(u32::MAX),
            number: number("X-Pagination-Number", 1, 1_000_000_000)?,
            sort: header("x-pagination-sort").map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned),
            descending,
            conditions: read_filter(header("x-pagination-filter").unwrap_or_default())?,
        }))
    }

    /// The page of a list that is in memory.
    pub fn reply(&self, rows: Vec<Value>) -> Result<Reply, ApiError> {
        let (page, total) = self.page_of(rows)?;
        self.answer(&page, total)
    }

    fn page_of(&self, rows: Vec<Value>) -> Result<(Vec<Value>, u64), ApiError> {
        if let Some(sample) = rows.first() {
            let named = self.conditions.iter().map(|condition| &condition.field).chain(&self.sort);
            for field in named {
                if sample.get(field).is_none_or(|value| value.is_object() || value.is_array()) {
                    return Err(unknown_field(field, "a text, number or date of the listed objects"));
                }
            }
        }
        let mut rows: Vec<Value> = rows
            .into_iter()
            .filter(|row| self.conditions.iter().all(|condition| condition.holds(&row[&condition.field])))
            .collect();
        if let Some(field) = &self.sort {
            rows.sort_by(|a, b| compare(&a[field], &text(&b[field])));
        }
        if self.descending == Some(true) {
            rows.reverse();
        }
        let total = rows.len() as u64;
        let start = usize::try_from(self.offset()).unwrap_or(usize::MAX).min(rows.len());
        let page = rows.split_off(start).into_iter().take(self.size as usize).collect();
        Ok((page, total))
    }

    /// The wish as a query of jobs; newest first where nothing else is said.
    pub fn jobs(&self) -> Result<ListQuery, ApiError> {
        let filters = self.conditions.iter().map(Condition::of_jobs).collect::<Result<Vec<_>, _>>()?;
        let sort = self.sort.as_deref().map(job_field).transpose()?;
        Ok(ListQuery {
            filters,
            descending: self.descending.unwrap_or(sort.is_none()),
            sort: sort.unwrap_or(JobField::Created),
            offset: self.offset(),
            limit: self.size,
        })
    }

    /// A page that was found, with the headers that tell of the whole.
    pub fn answer(&self, page: &[Value], total: u64) -> Result<Reply, ApiError> {
        let header = |name: &'static str, number: u64| (HeaderName::from_static(name), HeaderValue::from(number));
        let mut reply = Reply::json(&page)?;
        for (name, value) in [
            header("x-pagination-elements", total),
            header("x-pagination-number", self.number),
            header("x-pagination-size", u64::from(self.size)),
            header("x-pagination-total", total.div_ceil(u64::from(self.size))),
        ] {
            reply = reply.with_header(name, value);
        }
        Ok(reply)
    }

    fn offset(&self) -> u64 {
        (self.number - 1).saturating_mul(u64::from(self.size))
    }
}

impl Condition {
    fn of_jobs(&self) -> Result<Filter, ApiError> {
        let field = job_field(&self.field)?;
        let is_time = field.is_time();
        if is_time && matches!(self.op, FilterOp::Like | FilterOp::NotLike) {
            return Err(ApiError::bad_field(FILTER, format!("{}: like and nlike are for texts", self.field)));
        }
        let values = match is_time {
            false => self.values.clone(),
            true => self.values.iter().map(|text| normal_time(&self.field, text)).collect::<Result<_, _>>()?,
        };
        Ok(Filter { field, op: self.op, values })
    }

    fn holds(&self, value: &Value) -> bool {
        use std::cmp::Ordering as O;
        let given = text(value);
        let any = |good: fn(O) -> bool| self.values.iter().any(|wanted| good(compare(value, wanted)));
        match self.op {
            FilterOp::Eq | FilterOp::In => any(O::is_eq),
            FilterOp::Neq => !any(O::is_eq),
            FilterOp::Like => self.values.iter().any(|pattern| like(pattern, &given)),
            FilterOp::NotLike => !self.values.iter().any(|pattern| like(pattern, &given)),
            FilterOp::Gt => any(O::is_gt),
            FilterOp::Lt => any(O::is_lt),
            FilterOp::Ge => any(O::is_ge),
            FilterOp::Le => any(O::is_le),
        }
    }
}

/// Filters of `?status=`: one word or several, separated by commas.
pub(crate) fn status_filter(given: &str) -> Result<Filter, ApiError> {
    let values: Vec<String> = given.split(',').map(|word| word.trim().to_owned()).collect();
    if values.iter().any(|word| JobStatus::parse(word).is_none() && word != JobStatus::Unknown.as_str()) {
        let known = JobStatus::ALL.map(JobStatus::as_str).join(", ");
        return Err(ApiError::bad_field("status", format!("one of {known}")));
    }
    Ok(Filter { field: JobField::Status, op: FilterOp::In, values })
}

fn read_filter(header: &str) -> Result<Vec<Condition>, ApiError> {
    let parts: Vec<&str> = header.split('&').filter(|part| !part.trim().is_empty()).collect();
    if parts.len() > MOST_CONDITIONS {
        return Err(ApiError::bad_field(FILTER, format!("at most {MOST_CONDITIONS} conditions")));
    }
    parts.into_iter().map(read_condition).collect()
}

fn read_condition(part: &str) -> Result<Condition, ApiError> {
    let form = || ApiError::bad_field(FILTER, "field:operator=value, each percent-encoded, several joined by '&'");
    let decode = |text: &str| {
        percent::decode(text.trim(), false).map_err(|fault| ApiError::bad_field(FILTER, fault.to_string()))
    };
    // A client may have encoded the whole of it, its ':' and '=' included.
    let whole = decode(part)?;
    let (field, op, value) = match part.split_once('=').and_then(|(left, value)| Some((left.split_once(':')?, value))) {
        Some(((field, op), value)) => (decode(field)?, decode(op)?, decode(value)?),
        None => {
            let (left, value) = whole.split_once('=').ok_or_else(form)?;
            let (field, op) = left.split_once(':').ok_or_else(form)?;
            (field.to_owned(), op.to_owned(), value.to_owned())
        }
    };
    let op = match op.as_str() {
        "eq" => FilterOp::Eq,
        "neq" => FilterOp::Neq,
        "like" => FilterOp::Like,
        "nlike" => FilterOp::NotLike,
        "gt" => FilterOp::Gt,
        "lt" => FilterOp::Lt,
        "ge" => FilterOp::Ge,
        "le" => FilterOp::Le,
        "in" => FilterOp::In,
        _ => return Err(ApiError::bad_field(FILTER, "the operators are eq, neq, like, nlike, gt, lt, ge, le, in")),
    };
    let values: Vec<String> = match op {
        FilterOp::In => value.split(',').map(|item| item.trim().to_owned()).collect(),
        _ => vec![value],
    };
    if values.len() > MOST_VALUES || values.iter().any(|value| value.len() > LONGEST_VALUE) {
        return Err(ApiError::bad_field(FILTER, format!("at most {MOST_VALUES} values of {LONGEST_VALUE} bytes each")));
    }
    Ok(Condition { field, op, values })
}

fn job_field(name: &str) -> Result<JobField, ApiError> {
    let found = JobField::ALL.into_iter().find(|field| field.name() == name);
    let names = || JobField::ALL.map(JobField::name).join(", ");
    found.ok_or_else(|| unknown_field(name, &format!("one of {}", names())))
}

fn unknown_field(name: &str, rule: &str) -> ApiError {
    let name: String = name.chars().take(80).collect();
    ApiError::bad_field("X-Pagination", format!("'{name}' cannot be filtered or sorted by; {rule}"))
}

fn normal_time(field: &str, text: &str) -> Result<String, ApiError> {
    let time = text.parse::<Timestamp>();
    time.map(|time| time.to_string()).map_err(|_| ApiError::bad_field(FILTER, format!("{field}: a time by RFC 3339")))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Numbers as numbers, all else as text.
fn compare(value: &Value, wanted: &str) -> std::cmp::Ordering {
    match (value.as_f64(), wanted.parse::<f64>()) {
        (Some(number), Ok(wanted)) => number.total_cmp(&wanted),
        _ => text(value).as_str().cmp(wanted),
    }
}

/// Whether `text` meets a pattern in which `*` stands for any text.
fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

const PAGES: &str = "CachedObjectList-Pages";
const FILTER: &str = "X-Pagination-Filter";
/// A job may hold some hundred KiB, and a page is in memory at once.
const LARGEST_PAGE: u64 = 250;
const MOST_CONDITIONS: usize = 16;
const MOST_VALUES: usize = 100;
const LONGEST_VALUE: usize = 1_024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wish(headers: &[(&str, &str)]) -> Result<Wish, ApiError> {
        let find =
            |name: &str| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        let find = |name: &str| if name == "x-pagination-mode" { Some(PAGES) } else { find(name) };
        Wish::from_headers(find).map(|wish| wish.expect("a wish"))
    }

    fn names(wish: &Wish) -> (Vec<String>, u64) {
        let rows = ["b", "a", "c", "ab"].map(|name| json!({ "name": name, "size": name.len() })).to_vec();
        let (page, total) = wish.page_of(rows).expect("a page");
        (page.iter().map(|row| text(&row["name"])).collect(), total)
    }

    #[test]
    fn a_page_is_a_part_of_the_whole_in_its_order() {
        let sorted = wish(&[("X-Pagination-Sort", "name"), ("X-Pagination-Size", "3")]).expect("a wish");
        assert_eq!(names(&sorted), (vec!["a".to_owned(), "ab".into(), "b".into()], 4));
        let next = [("X-Pagination-Sort", "name"), ("X-Pagination-Size", "3"), ("X-Pagination-Number", "2")];
        assert_eq!(names(&wish(&next).expect("a wish")), (vec!["c".to_owned()], 4));
        let back = wish(&[("X-Pagination-Sort", "name"), ("X-Pagination-Sort-Order", "DESC")]).expect("a wish");
        assert_eq!(names(&back).0, ["c", "b", "ab", "a"]);
        let past = wish(&[("X-Pagination-Number", "1000000000"), ("X-Pagination-Size", "250")]).expect("a wish");
        assert_eq!(names(&past), (Vec::new(), 4));
    }

    #[test]
    fn every_operator_filters() {
        for (filter, expected) in [
            ("name:eq=a", &["a"][..]),
            ("name:neq=a", &["b", "c", "ab"]),
            ("name:like=a*", &["a", "ab"]),
            ("name:like=*b", &["b", "ab"]),
            ("name:nlike=*b", &["a", "c"]),
            ("name:in=a,c", &["a", "c"]),
            ("size:gt=1", &["ab"]),
            ("size:le=1&name:ge=b", &["b", "c"]),
            ("name%3Alike%3D%2Ab%2A", &["b", "ab"]),
        ] {
            let wish = wish(&[("X-Pagination-Filter", filter)]).expect("a wish");
            assert_eq!(names(&wish).0, expected, "{filter}");
        }
    }

    #[test]
    fn what_is_not_a_page_is_refused() {
        for (name, value) in [
            ("X-Pagination-Size", "0"),
            ("X-Pagination-Size", "1001"),
            ("X-Pagination-Number", "-1"),
            ("X-Pagination-Sort-Order", "up"),
            ("X-Pagination-Filter", "name"),
            ("X-Pagination-Filter", "name:is=a"),
            ("X-Pagination-Filter", "name:eq=%ff"),
        ] {
            assert!(wish(&[(name, value)]).is_err(), "{name}: {value}");
        }
        for filter in ["colour:eq=red", "creationDate:gt=yesterday", "creationDate:like=2024*"] {
            assert!(wish(&[("X-Pagination-Filter", filter)]).expect("a wish").jobs().is_err(), "{filter}");
        }
    }

    #[test]
    fn jobs_come_newest_first_unless_asked_otherwise() {
        let query = wish(&[]).expect("a wish").jobs().expect("a query");
        assert!(query.descending && query.sort == JobField::Created);
        let query = wish(&[("X-Pagination-Sort", "name")]).expect("a wish").jobs().expect("a query");
        assert!(!query.descending && query.sort == JobField::Name);
    }
}
