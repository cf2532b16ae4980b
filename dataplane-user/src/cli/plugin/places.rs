//! Where engines look for plugins, and which path of this binary a link may lead to.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::link::{self, BINARY, State};
use crate::cli::args::plugin::Engine;
use crate::cli::error::Error;
use crate::cli::netavark::reservation;
use crate::plugin::cni;

/// Where CNI runtimes look unless they are told otherwise: upstream's directory first, which is made if need be, then Debian's.
const CNI: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// Where Podman looks for plugins of netavark unless `netavark_plugin_dirs` says otherwise (containers.conf(5)); the first is made if
/// need be.
const NETAVARK: [&str; 4] =
    ["/usr/local/libexec/netavark", "/usr/libexec/netavark", "/usr/local/lib/netavark", "/usr/lib/netavark"];

/// Where a user would have put a binary to stay.
const INSTALLED: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"];

/// Every place where the engine could find a link of ours.
pub(in crate::cli) fn all(engine: Engine) -> Vec<PathBuf> {
    match engine {
        Engine::Docker => Vec::new(),
        Engine::Cni => CNI.map(|directory| Path::new(directory).join(cni::TYPE)).into(),
        Engine::Podman => netavark_directories().iter().map(|directory| directory.join(BINARY)).collect(),
    }
}

/// The places that should have a link to `binary`: those of the directories that are named, or else of those that the engine looks in.
pub(super) fn wanted(engine: Engine, directories: &[PathBuf], binary: &Path) -> Vec<PathBuf> {
    let name = if engine == Engine::Cni { cni::TYPE } else { BINARY };
    if !directories.is_empty() {
        return directories.iter().map(|directory| directory.join(name)).collect();
    }
    let places = all(engine);
    match engine {
        Engine::Docker => places,
        // One may be a link to the other.
        Engine::Cni => distinct(
            places
                .into_iter()
                .enumerate()
                .filter(|(number, place)| *number == 0 || place.parent().is_some_and(Path::is_dir)),
        ),
        // One is enough: Podman takes the first that it finds, so what is there of ours has to be right.
        Engine::Podman => {
            let ours = |place: &&PathBuf| !matches!(link::look(place, binary), Ok(State::Absent));
            let there: Vec<_> = places.iter().filter(ours).cloned().collect();
            if there.is_empty() { places.into_iter().take(1).collect() } else { there }
        }
    }
}

fn distinct(places: impl Iterator<Item = (usize, PathBuf)>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut first = |place: &PathBuf| {
        let directory =
            place.parent().map(|directory| fs::canonicalize(directory).unwrap_or_else(|_| directory.into()));
        seen.insert(directory)
    };
    places.map(|(_, place)| place).filter(|place| first(place)).collect()
}

/// The directories in which Podman looks for plugins.
fn netavark_directories() -> Vec<PathBuf> {
    let files = reservation::files();
    configured(files.iter().filter_map(|file| fs::read_to_string(file).ok()))
        .unwrap_or_else(|| NETAVARK.map(PathBuf::from).into())
}

/// The directories that Podman's configuration names, if it does.
fn configured(texts: impl Iterator<Item = String>) -> Option<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Conf {
        network: Option<Network>,
    }
    #[derive(Deserialize)]
    struct Network {
        netavark_plugin_dirs: Option<Vec<PathBuf>>,
    }
    let parsed = texts.filter_map(|text| toml::from_str::<Conf>(&text).ok()?.network?.netavark_plugin_dirs);
    parsed.filter(|directories| !directories.is_empty()).last()
}

/// The path of this binary that links may lead to: engines run it as root, today and after the next build.
pub(super) fn stable_binary() -> Result<PathBuf, Error> {
    let own = env::current_exe().map_err(|error| Error::Local(format!("cannot tell where this binary is: {error}")))?;
    let installed = INSTALLED.map(|directory| Path::new(directory).join(BINARY));
    if let Some(path) = installed.into_iter().find(|path| fs::canonicalize(path).is_ok_and(|path| path == own)) {
        return Ok(path);
    }
    match unstable(&own) {
        None => Ok(own),
        Some(why) => Err(Error::Local(format!(
            "engines are to run {}, but {why}: install it first, `sudo install {} /usr/local/bin/{BINARY}`, and call that one",
            own.display(),
            own.display()
        ))),
    }
}

/// Why a file may not be there, or may be another one, when an engine runs it; none if there is no reason.
fn unstable(path: &Path) -> Option<String> {
    if path.file_name().is_none_or(|name| name != BINARY) {
        return Some(format!("its name is not {BINARY}"));
    }
    path.ancestors().find_map(|part| {
        let shown = part.display();
        let Ok(metadata) = fs::metadata(part) else { return Some(format!("{shown} cannot be looked at")) };
        if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            return Some(format!("{shown} may be changed by others than root"));
        }
        // What cargo and others call a folder of things that can be made again.
        part.join("CACHEDIR.TAG").exists().then(|| format!("{shown} is a folder of build output"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_configuration_names_directories() {
        let texts = |texts: &[&str]| configured(texts.iter().map(ToString::to_string).collect::<Vec<_>>().into_iter());
        assert_eq!(texts(&["[engine]\nruntime = \"crun\"\n", "not TOML ["]), None);
        let first = "[network]\nnetavark_plugin_dirs = [\"/opt/a\", \"/opt/b\"]\n";
        assert_eq!(texts(&[first, "[network]\n"]), Some(vec!["/opt/a".into(), "/opt/b".into()]));
        assert_eq!(texts(&[first, "[network]\nnetavark_plugin_dirs = [\"/c\"]\n"]), Some(vec!["/c".into()]));
    }

    #[test]
    fn build_output_and_what_others_may_change_is_not_stable() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let path = dir.path().join(BINARY);
        fs::write(&path, "").unwrap();
        assert_eq!(unstable(&path).unwrap(), "/tmp may be changed by others than root");
        assert_eq!(unstable(Path::new("/usr/bin/true")).unwrap(), "its name is not spandrel");
        fs::write(dir.path().join("CACHEDIR.TAG"), "").unwrap();
        assert_eq!(unstable(&path).unwrap(), format!("{} is a folder of build output", dir.path().display()));
    }
}
