//! The JSON of the HTTP API, as both sides of the socket see it.
//!
//! Docker's own objects have Docker's field names and Docker's way to say "nothing" (an empty string, or
//! a field that is left out), so that Docker's clients read our answers and we read their requests.
//! Addresses stay text here: what they mean, and whether they are right, is decided in `super::convert`.
//! What Docker has no object for is in [`spandrel`].

pub mod attachment;
pub mod container;
pub mod endpoint;
pub mod event;
#[cfg(test)]
mod golden;
pub mod moment;
pub mod network;
pub mod spandrel;
pub mod system;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// The body of every answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// One sentence: what is wrong, where, and what would be right.
    pub message: String,
}

/// Reads JSON `null` as the default value: Go clients write absent maps and lists that way.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a flag is off, for `skip_serializing_if`.
pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}
