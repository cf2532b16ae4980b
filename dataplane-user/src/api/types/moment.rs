//! Moments that may not have come yet: Docker writes year 1 for "never".

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// What Go prints for a time that was never set.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Writes a moment in RFC 3339, or year 1 if there is none.
pub fn serialize<S: Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => moment.serialize(serializer),
        None => serializer.serialize_str(NEVER),
    }
}

/// Reads a moment; year 1, an empty string and `null` are "never".
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("" | NEVER) => Ok(None),
        Some(text) => text.parse().map(Some).map_err(D::Error::custom),
    }
}
