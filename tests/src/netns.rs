//! Network namespaces that nobody of ours made, kept as `ip netns` keeps them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, umount2};

use crate::fail::OrFail;
use crate::machine::Machine;
use crate::net::Net;

/// Where they are.
const FOLDER: &str = "/run/netns";

impl Machine {
    /// Makes a namespace with nothing in it but a loopback interface that is off, as `ip netns add` does.
    #[track_caller]
    pub fn add_netns(&self, name: &str) -> Net {
        let path = Path::new(FOLDER).join(name);
        let made = self.enter(|| {
            fs::create_dir_all(FOLDER)?;
            File::create_new(&path)
        });
        made.or_fail(format_args!("make the file of the network namespace {name}"));
        // A process of the machine's: what a thread of ours is in is not seen in the machine's /proc.
        self.command(&["unshare", &format!("--net={}", path.display()), "true"]).ok();
        Net::open(name, &self.path(&path)).or_fail(format_args!("open the network namespace {name}"))
    }

    /// Takes its name away, as `ip netns delete` does: it ends when nobody uses it any more.
    #[track_caller]
    pub fn delete_netns(&self, name: &str) {
        let path = Path::new(FOLDER).join(name);
        let deleted: io::Result<()> = self.enter(|| {
            umount2(&path, MntFlags::MNT_DETACH)?;
            fs::remove_file(&path)
        });
        deleted.or_fail(format_args!("delete the network namespace {name}"));
    }
}
