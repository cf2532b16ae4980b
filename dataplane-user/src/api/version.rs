//! API versions: every path may start with `/v1.NN`, and every answer says what we speak.

use axum::extract::Request;
use axum::http::header::SERVER;
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::Refusal;

/// The newest version of Docker's API whose objects ours look like.
pub(super) const NEWEST: Version = Version(1, 51);
/// The oldest version that we answer to; what came later is left out of no answer.
pub(super) const OLDEST: Version = Version(1, 24);

/// A version of the API: `1.51`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u16, u16);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Version(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The version that a path starts with, and the rest of the path.
fn split(path: &str) -> Option<(Version, &str)> {
    let (version, rest) = path.strip_prefix("/v")?.split_once('/')?;
    Some((Version::parse(version)?, &path[path.len() - rest.len() - 1..]))
}

fn check(version: Version) -> Result<(), Refusal> {
    if version > NEWEST {
        return Err(Refusal::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {NEWEST}"
        )));
    }
    if version < OLDEST {
        return Err(Refusal::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer version"
        )));
    }
    Ok(())
}

/// Takes the version off the path before it is routed, and adds the headers by which clients know us.
pub(super) async fn negotiate(mut request: Request, next: Next) -> Response {
    let mut response = match strip(&mut request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    let newest = NEWEST.to_string();
    let server = concat!("Spandrel/", env!("CARGO_PKG_VERSION"), " (linux)");
    if let Ok(newest) = HeaderValue::from_str(&newest) {
        headers.insert(HeaderName::from_static("api-version"), newest);
    }
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    headers.insert(SERVER, HeaderValue::from_static(server));
    response
}

fn strip(request: &mut Request) -> Result<(), Refusal> {
    let Some((version, path)) = split(request.uri().path()) else {
        return Ok(());
    };
    check(version)?;
    let path_and_query = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_string(),
    };
    // A suffix of a valid path that starts with a slash is a valid path.
    *request.uri_mut() = path_and_query
        .parse::<Uri>()
        .map_err(|error| Refusal::bad_request(format!("invalid path {path_and_query}: {error}")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        assert_eq!(split("/v1.50/networks/v1.2"), Some((Version(1, 50), "/networks/v1.2")));
        assert_eq!(split("/v1.24/_ping"), Some((Version(1, 24), "/_ping")));
        for other in ["/networks", "/version", "/v1.50", "/v1/networks", "/vx.y/networks", "/v1.5.2/networks", "/"] {
            assert_eq!(split(other), None, "{other}");
        }
    }

    #[test]
    fn only_versions_that_we_speak() {
        assert!(check(Version(1, 24)).is_ok());
        assert!(check(NEWEST).is_ok());
        assert!(check(Version(1, 23)).is_err());
        assert!(check(Version(1, 52)).is_err());
        assert!(check(Version(2, 0)).is_err());
    }
}
