//! Our own Debian package on a machine of the lab: installed by dpkg as an administrator would, and its agent started with the rights
//! that its unit gives it. There is no systemd on such a machine; setpriv does what systemd would do.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use crate::debian::fetched;
use crate::fail::OrFail;
use crate::host::Host;
use crate::machine::Machine;
use crate::process::{Output, Process};

/// What an installation changes.
const CHANGED: [&str; 3] = ["usr", "opt", "var"];

/// Where the unit's agent says that it is ready.
const NOTIFY: &str = "/run/lab/notify";

/// How long it may take until it says so.
const READY: Duration = Duration::from_secs(120);

/// The package's unit, as far as a service manager gives rights by it.
pub struct Unit {
    text: String,
}

impl Machine {
    /// Installs our package, which `cargo xtask dist` and `cargo xtask test` make.
    #[track_caller]
    pub fn install_package(&self) {
        self.own_system();
        self.dpkg("--install", &package()).ok();
    }

    /// Makes `/usr`, `/opt` and `/var` the machine's own: what is changed there, nobody else sees.
    #[track_caller]
    pub fn own_system(&self) {
        self.enter(|| CHANGED.iter().try_for_each(|name| overlay(name))).or_fail("lay over what a package changes");
    }

    /// Runs dpkg with one word and what it is about.
    #[track_caller]
    pub fn dpkg(&self, action: &str, what: &Path) -> Output {
        let mut command = Command::new("dpkg");
        command.args(["--force-confnew", action]).arg(what).env("DEBIAN_FRONTEND", "noninteractive");
        // As an administrator's, whatever the caller's is.
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        self.output(command)
    }

    /// The unit of the package that is installed here.
    #[track_caller]
    pub fn unit(&self) -> Unit {
        let path = self.path("/usr/lib/systemd/system/spandrel.service");
        Unit { text: fs::read_to_string(&path).or_fail(format_args!("read {}", path.display())) }
    }
}

impl Host {
    /// Puts the binary where one that was built by hand is installed; `spandrel` is it.
    #[track_caller]
    pub fn install_binary(&self) {
        self.own_system();
        let built = self.program("").get_program().to_owned();
        self.command(&["install", &built.to_string_lossy(), "/usr/local/bin/spandrel"]).ok();
    }
}

impl Unit {
    /// What the unit says of a name, from all lines together.
    pub fn words(&self, name: &str) -> Vec<&str> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        lines.flat_map(str::split_whitespace).collect()
    }

    /// Starts the agent as this unit does, with its rights and no others, and waits until it says that it is ready.
    #[track_caller]
    #[must_use = "an agent that is dropped is killed"]
    pub fn start(&self, host: &Host) -> Process {
        let notify = host
            .enter(|| {
                // An agent before this one may have had it.
                _ = fs::remove_file(NOTIFY);
                UnixDatagram::bind(NOTIFY)
            })
            .or_fail("listen for the agent's readiness");
        let bounds: BTreeSet<String> =
            self.words("CapabilityBoundingSet").iter().map(|name| name.to_lowercase()).collect();
        let bounds: Vec<_> = bounds.iter().map(|name| format!("+{}", name.trim_start_matches("cap_"))).collect();
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-all,{}", bounds.join(","))).arg("--inh-caps=-all");
        if self.words("NoNewPrivileges") == ["yes"] {
            command.arg("--no-new-privs");
        }
        command.args(self.words("ExecStart").iter().filter(|word| !word.starts_with('$')));
        command.env_remove("SPANDREL_SOCKET").env_remove("RUST_LOG").env("NOTIFY_SOCKET", NOTIFY);
        let mut agent = host.spawn(command).or_fail("start the package's agent");
        notify.set_read_timeout(Some(Duration::from_millis(200))).or_fail("set a time limit");
        let said = crate::process::within(READY, || {
            assert!(agent.ended().is_none(), "the agent has ended:\n{}", agent.stderr());
            let mut said = [0; 64];
            notify.recv(&mut said).ok().map(|length| said[..length].to_vec())
        });
        let said = said.map(|said| String::from_utf8_lossy(&said).trim().to_owned());
        assert_eq!(said.as_deref(), Some("READY=1"), "{}", agent.stderr());
        agent
    }
}

/// The package.
#[track_caller]
fn package() -> PathBuf {
    let folder = fetched("dist");
    let files = fs::read_dir(&folder).or_fail("look for our package").flatten().map(|entry| entry.path());
    let mut packages = files.filter(|path| path.extension().is_some_and(|ending| ending == "deb"));
    packages.next().ok_or("it is not there").or_fail("find our package, which `cargo xtask dist` makes")
}

/// Makes a directory of the machine that the thread has entered its own: what is changed there, nobody else sees.
fn overlay(name: &str) -> io::Result<()> {
    // Debian's programs lie over it already: the kernel takes no pile of these.
    if Path::new("/run/lab").join(name).exists() {
        return Ok(());
    }
    let (upper, work) = (format!("/run/lab/own/{name}"), format!("/run/lab/own-work/{name}"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let layers = format!("lowerdir=/{name},upperdir={upper},workdir={work}");
    Ok(mount(Some("overlay"), format!("/{name}").as_str(), Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?)
}
