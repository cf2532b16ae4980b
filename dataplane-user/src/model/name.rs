//! Names: which are allowed, how a reference is looked up, and which name was probably meant.

use super::id::random_bytes;
use super::{Error, Id, Result};

/// Names end up as file names.
const MAX_NAME: usize = 200;

/// A thing with an identifier and a name.
pub trait Named {
    /// Its identifier.
    fn id(&self) -> Id;
    /// Its name.
    fn name(&self) -> &str;
}

/// Docker's rule for names; `kind` is `network` or `container`.
pub fn check_name(kind: &str, name: &str) -> Result<()> {
    let mut characters = name.chars();
    let allowed = characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if !allowed {
        return Err(Error::Invalid(format!(
            "Invalid {kind} name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed",
            name.escape_debug()
        )));
    }
    if name.len() > MAX_NAME {
        return Err(Error::Invalid(format!(
            "Invalid {kind} name ({}...): it has {} characters, at most {MAX_NAME} are allowed",
            &name[..24],
            name.len()
        )));
    }
    Ok(())
}

/// Host names as RFC 1123 wants them and as long as Linux takes them.
pub fn check_hostname(name: &str) -> Result<()> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if name.len() <= 64 && name.split('.').all(label) {
        return Ok(());
    }
    Err(Error::Invalid(format!("invalid hostname {name:?}: at most 64 letters, digits, '-' and '.' are allowed")))
}

/// A name that can be asked for in the DNS (RFC 1035 §2.3.4); `what` is what it is.
pub fn check_dns_name(what: &str, name: &str) -> Result<()> {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.len() <= 253 && bare.split('.').all(label) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "invalid {what} {name:?}: letters, digits, '-' and '_' are allowed, in parts of at most 63 with dots between"
    )))
}

/// The kernel's rule for interface names; the error is only the reason.
pub fn check_interface_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 15 {
        return Err("an interface name has 1 to 15 characters".into());
    }
    if name == "." || name == ".." {
        return Err("it is not an interface name".into());
    }
    match name.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '%')) {
        Some(c) => Err(format!("an interface name cannot hold {c:?}")),
        None => Ok(()),
    }
}

/// Looks a reference up as Docker does: full id, then full name, then an unambiguous prefix of an id.
pub fn resolve<'a, T: Named>(kind: &str, reference: &str, items: impl Iterator<Item = &'a T> + Clone) -> Result<&'a T> {
    if reference.len() == Id::DIGITS
        && let Some(item) = items.clone().find(|item| item.id().begins_with(reference))
    {
        return Ok(item);
    }
    if let Some(item) = items.clone().find(|item| item.name() == reference) {
        return Ok(item);
    }
    let mut matches = items.clone().filter(|item| !reference.is_empty() && item.id().begins_with(reference));
    match (matches.next(), matches.count()) {
        (Some(item), 0) => Ok(item),
        (Some(_), others) => Err(Error::Invalid(format!(
            "{kind} {reference} is ambiguous ({} matches found based on ID prefix)",
            others + 1
        ))),
        (None, _) => {
            let reference = reference.escape_debug();
            // Docker words the two differently.
            let missing = Error::NotFound(match kind {
                "network" => format!("network {reference} not found"),
                _ => format!("No such {kind}: {reference}"),
            });
            Err(match nearest(&reference.to_string(), items.map(|item| item.name())) {
                Some(name) => missing.and(format_args!("did you mean {name}?")),
                None => missing,
            })
        }
    }
}

/// The candidate that was probably meant, if any is near enough.
pub(super) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // One mistake in two or three characters, two in five; a single character is like any other.
    let near = (given.chars().count() + 1) / 3;
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&given.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A name for a container that was given none; tried again by the caller until it is free.
pub fn random_name() -> String {
    const LEFT: [&str; 32] = [
        "amber", "bold", "brisk", "calm", "clever", "cosy", "crisp", "dapper", "eager", "fair", "fleet", "gentle",
        "glad", "hardy", "honest", "keen", "kind", "lively", "loyal", "lucid", "merry", "mild", "nimble", "patient",
        "plucky", "quiet", "rapid", "sober", "steady", "sunny", "tidy", "witty",
    ];
    const RIGHT: [&str; 32] = [
        "arch", "beam", "bridge", "buttress", "canopy", "cornice", "cupola", "dome", "eave", "finial", "gable",
        "girder", "joist", "keystone", "lintel", "mortar", "nave", "niche", "parapet", "pier", "pillar", "plinth",
        "portal", "rafter", "spire", "tower", "transept", "truss", "turret", "vault", "viaduct", "voussoir",
    ];
    let [left, right, number]: [u8; 3] = random_bytes();
    format!("{}_{}{}", LEFT[usize::from(left % 32)], RIGHT[usize::from(right % 32)], number)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(Id, String);

    impl Named for Thing {
        fn id(&self) -> Id {
            self.0
        }

        fn name(&self) -> &str {
            &self.1
        }
    }

    fn thing(digit: char, name: &str) -> Thing {
        let id: String = "ab".chars().chain(std::iter::repeat_n(digit, 62)).collect();
        Thing(id.parse().unwrap(), name.into())
    }

    #[test]
    fn names() {
        for name in ["a", "web", "0", "a_b.c-d", "Ubuntu22.04"] {
            check_name("container", name).unwrap();
        }
        for name in ["", "-a", ".a", "_a", "a b", "a/b", "ü", "a\n", "a:b"] {
            let error = check_name("container", name).unwrap_err().to_string();
            assert!(error.starts_with("Invalid container name ("), "{error}");
            assert!(!error.contains('\n'));
        }
        assert!(check_name("network", &"x".repeat(201)).is_err());
        check_name("container", &random_name()).unwrap();
    }

    #[test]
    fn hostnames() {
        for name in ["a", "web-1", "db.example.org", "x_y"] {
            check_hostname(name).unwrap();
        }
        for name in ["", "-a", "a-", "a..b", "a b", "a/b", &"x".repeat(65)] {
            assert!(check_hostname(name).is_err(), "{name}");
        }
    }

    #[test]
    fn dns_names() {
        for name in ["a", "web-1", "db.example.org", "example.org.", "_srv.x_y", &"x".repeat(63)] {
            check_dns_name("alias", name).unwrap();
        }
        for name in ["", ".", "a..b", "a b", "a/b", "ü", &"x".repeat(64), &["x"; 128].join(".")] {
            assert!(check_dns_name("alias", name).is_err(), "{name}");
        }
    }

    #[test]
    fn look_up_order() {
        let first = thing('1', "web");
        let full_id_as_name = thing('2', &first.0.to_string());
        let prefix_as_name = thing('3', "ab1");
        let things = [full_id_as_name, prefix_as_name, first];
        let find = |reference: &str| resolve("network", reference, things.iter());
        // A full id wins over a name, a name over a prefix.
        assert_eq!(find(&things[2].0.to_string()).unwrap().1, "web");
        assert_eq!(find("ab1").unwrap().1, "ab1");
        assert_eq!(find("web").unwrap().1, "web");
        assert_eq!(find("ab11").unwrap().1, "web");
        let error = find("ab").err().unwrap();
        assert!(matches!(&error, Error::Invalid(text) if text.contains("ambiguous (3 matches")), "{error}");
        assert!(matches!(find(""), Err(Error::NotFound(_))));
    }

    #[test]
    fn suggestions() {
        let things = [thing('1', "front-net"), thing('2', "back-net")];
        let text = |reference| resolve("network", reference, things.iter()).err().unwrap().to_string();
        assert_eq!(text("frnt-net"), "network frnt-net not found; did you mean front-net?");
        assert_eq!(text("Front-Net"), "network Front-Net not found; did you mean front-net?");
        assert_eq!(text("database"), "network database not found");
        assert_eq!(text("b"), "network b not found");
    }
}
