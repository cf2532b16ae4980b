//! Whether Podman itself reserves published ports (containers.conf(5), `enable_port_reservation`): it binds them after `setup`, which
//! cannot go well, since the agent holds them then.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// What is said before Podman fails.
pub(in crate::cli) const HINT: &str = "the agent holds published ports, and Podman reserves them as well: write enable_port_reservation = false into \
                               [engine] of /etc/containers/containers.conf";

/// Whether it does; yes unless a file says no.
pub(in crate::cli) fn is_on() -> bool {
    let said = |file: PathBuf| setting(&fs::read_to_string(file).ok()?);
    files().into_iter().rev().find_map(said).unwrap_or(true)
}

/// The files that Podman reads as root, the last word last.
pub(in crate::cli) fn files() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut files = match variable("CONTAINERS_CONF") {
        Some(only) => vec![only],
        None => {
            let mut files = Vec::new();
            for folder in ["/usr/share/containers", "/etc/containers"] {
                let main = Path::new(folder).join("containers.conf");
                let further = main.with_added_extension("d");
                let mut parts: Vec<_> =
                    fs::read_dir(further).into_iter().flatten().flatten().map(|e| e.path()).collect();
                parts.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
                parts.sort();
                files.push(main);
                files.extend(parts);
            }
            files
        }
    };
    files.extend(variable("CONTAINERS_CONF_OVERRIDE"));
    files
}

/// What one file says.
fn setting(text: &str) -> Option<bool> {
    text.parse::<toml::Table>().ok()?.get("engine")?.get("enable_port_reservation")?.as_bool()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says() {
        assert_eq!(setting("[engine]\nenable_port_reservation = false\n"), Some(false));
        assert_eq!(setting("[engine]\nenable_port_reservation = true\n"), Some(true));
        assert_eq!(setting("[network]\nenable_port_reservation = false\n"), None);
        assert_eq!(setting("[engine]\nruntime = \"crun\"\n"), None);
        assert_eq!(setting("no TOML"), None);
    }
}
