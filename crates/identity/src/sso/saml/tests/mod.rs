mod answer;
mod attacks;
mod fixtures;
mod flow;
pub(crate) mod signer;

use super::{Refused, certificate, response, signature, xml};
