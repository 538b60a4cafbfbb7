//! IAM: policies of an account say which identities may do which actions on which of its resources, and when. What no
//! policy allows is denied, and what one denies is denied whatever others allow. Start at [`Iam::decide`].
//!
//! How a decision comes about:
//! 1. The index finds the statements that name the identity, the action and the resource. It compares texts only, and
//!    what it leaves out could not have applied. What it found for a question is kept until the policies change.
//! 2. Cedar (`cedar-policy`) evaluates these statements, each of which says its whole rule again, with the conditions and
//!    the expiry that the index does not look at. A statement that cannot be evaluated is an error, and nothing is allowed:
//!    Cedar by itself would leave it out, and with it perhaps a denial. Of statements that the index found, what is left to
//!    Cedar is when they apply, so of those with the same effect, conditions and expiry one is asked, and its answer is kept
//!    for this class of them, with all that it depends on: the values of the tags that the conditions name, whether it is
//!    over, the days in its zones, and in which of its blocks the address is. So a question that is asked for the first
//!    time asks Cedar nothing, where a question before it met the same classes.
//! 3. What applies is combined: what one denies is denied; else what one allows is allowed; else nothing allows it. The
//!    verdict is kept for this question and these circumstances.
//!
//! Names of objects are without end, so of the object store no question is kept by its resource: the index is asked each
//! time, and what it found is the question. The tags are those of the project.
//!
//! Days of the week are computed here for the zones that the statements name, for Cedar knows no zones. Which resource
//! groups a resource is in, and which wildcards stand for an identity, is found here too, and given to Cedar as parents.

mod actions;
mod cedar;
mod circumstances;
mod condition;
mod decide;
mod document;
mod explain;
mod pattern;
#[cfg(test)]
mod reference;
mod storage;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod urn;

pub use actions::Actions;
pub use condition::{Condition, Leaf};
pub use decide::{Effect, Facts, Failed, Iam, Question, Ruling, Verdict};
pub use document::{Body, Draft, InvalidDocument, Kind, Permissions, Policy, ResourceGroup};
pub use explain::{Explanation, Missed};
pub use pattern::Pattern;
pub use storage::{S3_ACTIONS, STORAGE_TYPE, s3_action, s3_category, storage_action};
pub(crate) use store::Snapshots;
pub use store::{IamDocument, IamResource};
pub use urn::{InvalidUrn, StoragePlace, URN_PREFIX, Urn, UrnKind};
