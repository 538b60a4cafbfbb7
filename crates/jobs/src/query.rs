//! Reading jobs: one, all ids, or a page by filters.

use db::jobs::{self as rows, Column, Condition, Selection, Value};
use model::{Faults, Job, JobId, JobStatus, ProjectId};

use crate::{Error, Inner};

/// A field that jobs are filtered and sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobField {
    /// The id.
    Id,
    /// The name.
    Name,
    /// The status.
    Status,
    /// When it was accepted.
    Created,
    /// When its user code was started.
    Started,
    /// When it ended.
    Ended,
    /// The engine's version.
    Version,
    /// The region.
    Region,
    /// The bucket of its code.
    Bucket,
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilterOp {
    /// Is the value.
    Eq,
    /// Is not the value.
    Neq,
    /// Matches the pattern, where `*` stands for any text.
    Like,
    /// Does not match the pattern.
    NotLike,
    /// Comes after the value.
    Gt,
    /// Comes before the value.
    Lt,
    /// Is the value or comes after it.
    Ge,
    /// Is the value or comes before it.
    Le,
    /// Is one of the values.
    In,
}

/// A filter: a field, a comparison, and the values as texts. Times are RFC 3339 texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Which field.
    pub field: JobField,
    /// How it is compared.
    pub op: FilterOp,
    /// With what: one value, and one or more for [`FilterOp::In`].
    pub values: Vec<String>,
}

/// Which page of which jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// All of these hold.
    pub filters: Vec<Filter>,
    /// Sorted by this field, then by id.
    pub sort: JobField,
    /// Whether the last comes first.
    pub descending: bool,
    /// How many to skip.
    pub offset: u64,
    /// At most so many, and never more than 1000.
    pub limit: u32,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// How many there are on all pages.
    pub total: u64,
    /// Those of this page.
    pub jobs: Vec<Job>,
}

pub(crate) async fn find(jobs: &Inner, project: &ProjectId, id: JobId) -> Result<Option<Job>, Error> {
    let found = rows::find(&jobs.parts.db, id).await?;
    Ok(found.filter(|job| job.project == *project))
}

pub(crate) async fn ids(jobs: &Inner, project: &ProjectId, filters: &[Filter]) -> Result<Vec<JobId>, Error> {
    Ok(rows::ids(&jobs.parts.db, project, &conditions(filters)?, MOST_IDS).await?)
}

pub(crate) async fn list(jobs: &Inner, project: &ProjectId, query: &ListQuery) -> Result<Page, Error> {
    let selection = Selection {
        conditions: conditions(&query.filters)?,
        sort: query.sort.column(),
        descending: query.descending,
        offset: query.offset,
        limit: query.limit.min(MOST_JOBS),
    };
    let total = rows::count(&jobs.parts.db, project, &selection.conditions).await?;
    let found = rows::list(&jobs.parts.db, project, &selection).await?;
    Ok(Page { total, jobs: found })
}

/// The filters as conditions on columns, or all that is wrong with them.
fn conditions(filters: &[Filter]) -> Result<Vec<Condition>, Faults> {
    let mut faults = Faults::default();
    if filters.len() > MOST_FILTERS {
        faults.add("filter", None, INVALID, format!("at most {MOST_FILTERS} filters"));
        return Err(faults);
    }
    let found: Vec<Condition> = filters.iter().filter_map(|filter| condition(filter, &mut faults)).collect();
    faults.or(found)
}

fn condition(filter: &Filter, faults: &mut Faults) -> Option<Condition> {
    let (name, column) = (filter.field.name(), filter.field.column());
    let most = if filter.op == FilterOp::In { MOST_VALUES } else { 1 };
    if filter.values.is_empty() || filter.values.len() > most {
        let message = match filter.op {
            FilterOp::In => format!("one to {MOST_VALUES} values"),
            _ => "one value".to_owned(),
        };
        faults.add(name, None, INVALID, message);
        return None;
    }
    if matches!(filter.op, FilterOp::Like | FilterOp::NotLike) {
        let pattern = filter.values.first()?.clone();
        if filter.field.is_time() || pattern.len() > LONGEST_PATTERN {
            let message = format!("a pattern of at most {LONGEST_PATTERN} bytes, for a field that is not a time");
            faults.add(name, Some(&pattern), INVALID, message);
            return None;
        }
        return Some(match filter.op {
            FilterOp::Like => Condition::Like(column, pattern),
            _ => Condition::NotLike(column, pattern),
        });
    }
    let read: Vec<Value> = filter.values.iter().filter_map(|text| value(filter.field, text, faults)).collect();
    if read.len() < filter.values.len() {
        return None;
    }
    let mut values = read.into_iter();
    Some(match filter.op {
        FilterOp::In => Condition::OneOf(column, values.collect()),
        FilterOp::Neq => Condition::IsNot(column, values.next()?),
        FilterOp::Gt => Condition::Above(column, values.next()?),
        FilterOp::Lt => Condition::Below(column, values.next()?),
        FilterOp::Ge => Condition::AtLeast(column, values.next()?),
        FilterOp::Le => Condition::AtMost(column, values.next()?),
        FilterOp::Eq | FilterOp::Like | FilterOp::NotLike => Condition::Is(column, values.next()?),
    })
}

fn value(field: JobField, text: &str, faults: &mut Faults) -> Option<Value> {
    let wrong = |faults: &mut Faults, message: String| {
        faults.add(field.name(), Some(text), INVALID, message);
        None
    };
    match field {
        _ if field.is_time() => match text.parse() {
            Ok(at) => Some(Value::Time(at)),
            Err(_) => wrong(faults, "a time by RFC 3339, such as 2026-01-31T12:00:00Z".to_owned()),
        },
        // UNKNOWN is a word of the API that no job ever has.
        JobField::Status if JobStatus::parse(text).is_none() && text != JobStatus::Unknown.as_str() => {
            let known = JobStatus::ALL.map(JobStatus::as_str).join(", ");
            wrong(faults, format!("one of {known}"))
        }
        // Ids are stored in lower case.
        JobField::Id => Some(Value::Text(text.to_ascii_lowercase())),
        _ => Some(Value::Text(text.to_owned())),
    }
}

impl JobField {
    /// Every field, in the order that the API names them.
    pub const ALL: [JobField; 9] = [
        JobField::Id,
        JobField::Name,
        JobField::Status,
        JobField::Created,
        JobField::Started,
        JobField::Ended,
        JobField::Version,
        JobField::Region,
        JobField::Bucket,
    ];

    fn column(self) -> Column {
        match self {
            JobField::Id => Column::Id,
            JobField::Name => Column::Name,
            JobField::Status => Column::Status,
            JobField::Created => Column::Created,
            JobField::Started => Column::Started,
            JobField::Ended => Column::Ended,
            JobField::Version => Column::Version,
            JobField::Region => Column::Region,
            JobField::Bucket => Column::Bucket,
        }
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            JobField::Id => "id",
            JobField::Name => "name",
            JobField::Status => "status",
            JobField::Created => "creationDate",
            JobField::Started => "startDate",
            JobField::Ended => "endDate",
            JobField::Version => "engineVersion",
            JobField::Region => "region",
            JobField::Bucket => "containerName",
        }
    }

    /// Whether it holds a time.
    pub fn is_time(self) -> bool {
        matches!(self, JobField::Created | JobField::Started | JobField::Ended)
    }
}

const INVALID: &str = "odp.job.filter.invalid";
/// A list of ids has no pages; 36 bytes each.
const MOST_IDS: u32 = 100_000;
const MOST_JOBS: u32 = 1000;
const MOST_FILTERS: usize = 32;
const MOST_VALUES: usize = 100;
const LONGEST_PATTERN: usize = 1024;
