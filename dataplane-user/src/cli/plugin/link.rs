//! Links by which engines find our binary: looked at, made and removed. What is no link to a binary of ours is never touched.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Name of the binary: a link that leads to a file of this name is one of ours.
pub(in crate::cli) const BINARY: &str = "spandrel";

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum State {
    /// Nothing.
    Absent,
    /// A link to this binary.
    Current,
    /// A link of ours that leads to another binary of the name.
    Other(PathBuf),
    /// A link of ours that leads nowhere any more.
    Dangling(PathBuf),
    /// Something else.
    Foreign,
}

/// What was done at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Done {
    /// A link was made.
    Made,
    /// The link was there.
    AlreadyThere,
    /// A link of ours that led there is replaced.
    Replaced(PathBuf),
}

/// Looks at a place, for a link to `binary`.
pub(in crate::cli) fn look(place: &Path, binary: &Path) -> io::Result<State> {
    let target = match fs::read_link(place) {
        Ok(target) => target,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(State::Absent);
        }
        // Not a link.
        Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(State::Foreign),
        Err(error) => return Err(error),
    };
    if target.file_name().is_none_or(|name| name != BINARY) {
        return Ok(State::Foreign);
    }
    match (fs::canonicalize(place), fs::canonicalize(binary)) {
        (Err(error), _) if error.kind() == ErrorKind::NotFound => Ok(State::Dangling(target)),
        (Ok(found), Ok(wanted)) if found == wanted => Ok(State::Current),
        _ => Ok(State::Other(target)),
    }
}

/// Makes a link to `binary`. What is foreign there is an error; the place has its new link at once or is as it was.
pub(in crate::cli) fn put(place: &Path, binary: &Path) -> io::Result<Done> {
    let done = match look(place, binary)? {
        State::Current => return Ok(Done::AlreadyThere),
        State::Foreign => return Err(ErrorKind::AlreadyExists.into()),
        State::Absent => Done::Made,
        State::Other(target) | State::Dangling(target) => Done::Replaced(target),
    };
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory)?;
    }
    if done == Done::Made {
        // Refused should anything have come meanwhile.
        symlink(binary, place)?;
        return Ok(done);
    }
    let fresh = place.with_extension("new");
    symlink(binary, &fresh)?;
    fs::rename(&fresh, place).inspect_err(|_| _ = fs::remove_file(&fresh))?;
    Ok(done)
}

/// Undoes [`put`], as far as the place is still as that left it.
pub(in crate::cli) fn undo(place: &Path, done: &Done, binary: &Path) -> io::Result<()> {
    match done {
        Done::AlreadyThere => Ok(()),
        Done::Made => remove(place, binary).map(drop),
        Done::Replaced(target) => {
            remove(place, binary)?;
            symlink(target, place)
        }
    }
}

/// Removes a link of ours, wherever it leads. Returns whether there was one.
pub(in crate::cli) fn remove(place: &Path, binary: &Path) -> io::Result<bool> {
    match look(place, binary)? {
        State::Absent | State::Foreign => Ok(false),
        State::Current | State::Other(_) | State::Dangling(_) => fs::remove_file(place).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_replaced_and_removed_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old/spandrel"), dir.path().join("new/spandrel"));
        for binary in [&old, &new] {
            fs::create_dir_all(binary.parent().unwrap()).unwrap();
            fs::write(binary, "").unwrap();
        }
        let place = dir.path().join("bin/spandrel-cni");
        assert_eq!(look(&place, &new).unwrap(), State::Absent);
        assert_eq!(put(&place, &old).unwrap(), Done::Made);
        assert_eq!(put(&place, &old).unwrap(), Done::AlreadyThere);
        assert_eq!(look(&place, &new).unwrap(), State::Other(old.clone()));
        let done = put(&place, &new).unwrap();
        assert_eq!(done, Done::Replaced(old.clone()));
        assert_eq!(look(&place, &new).unwrap(), State::Current);
        undo(&place, &done, &new).unwrap();
        assert_eq!(look(&place, &old).unwrap(), State::Current);
        fs::remove_file(&old).unwrap();
        assert_eq!(look(&place, &new).unwrap(), State::Dangling(old));
        assert!(remove(&place, &new).unwrap());
        assert!(!remove(&place, &new).unwrap());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("spandrel");
        fs::write(&binary, "").unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "kept").unwrap();
        symlink("/usr/bin/true", &link).unwrap();
        for place in [&file, &link] {
            assert_eq!(look(place, &binary).unwrap(), State::Foreign);
            assert_eq!(put(place, &binary).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert!(!remove(place, &binary).unwrap());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }
}
