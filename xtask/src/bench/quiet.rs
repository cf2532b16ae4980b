//! Waiting until the kernel has taken down what nobody uses any more.
//!
//! It does so in the background, one batch of network namespaces after the other, and meanwhile holds the lock that every change of a
//! network needs: after a crowd of thousands of interfaces for minutes, in which other parts would measure that, or fail.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{LinkUnspec, LinkVeth};

use super::peers::with_netlink;
use crate::progress::{say, waiting};

/// A namespace that is gone so soon has not waited for others, nor for the lock.
const SOON: Duration = Duration::from_secs(1);

/// How long the kernel is waited for at most.
const LIMIT: Duration = Duration::from_secs(600);

/// How often it is looked.
const TICK: Duration = Duration::from_millis(10);

/// Waits until the kernel has nothing left to take down. Must be root.
pub(super) fn wait() {
    let (start, (done, when)) = (Instant::now(), mpsc::channel());
    // What it asks the kernel for is not answered before the lock is free, and cannot be given up.
    thread::spawn(move || done.send(until_quiet()));
    let quiet = when.recv_timeout(2 * SOON).or_else(|_| {
        say("Waiting", "for the kernel, which still takes down earlier namespaces");
        let progress = waiting();
        let expedited = expedite();
        let quiet = when.recv_timeout(LIMIT);
        drop(expedited);
        progress.finish_and_clear();
        say("Waited", format!("{:.0} s", start.elapsed().as_secs_f64()));
        quiet
    });
    // The samples are as good as they can be, then.
    match quiet {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            say("Warning", format!("cannot tell whether the kernel is done with earlier namespaces: {error}"))
        }
        Err(_) => {
            let text = format!("the kernel still takes down namespaces after {LIMIT:?}: figures will say little");
            say("Warning", text);
        }
    }
}

/// Has the kernel expedite its grace periods until this is dropped, or this process ends, in whatever way: it waits for two of them at each
/// interface that has our programs, one interface after the other. Nothing where somebody else has seen to it.
fn expedite() -> Option<Expedited> {
    const SWITCH: &str = "/sys/kernel/rcu_expedited";
    if fs::read_to_string(SWITCH).ok()?.trim() != "0" {
        return None;
    }
    let script = format!("echo 1 > {SWITCH}; read end; echo 0 > {SWITCH}");
    // A group of its own is not interrupted with this one.
    Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).process_group(0).spawn().ok().map(Expedited)
}

/// What switches back when its standard input ends.
struct Expedited(Child);

impl Drop for Expedited {
    fn drop(&mut self) {
        // This closes its standard input. Where it fails there is nothing to wait for.
        let _ = self.0.wait();
    }
}

/// Returns when a namespace goes as soon as it is left. The first one may be of a batch of many, and the kernel is not done with a batch when
/// its interfaces are gone, but it begins the next one only then.
fn until_quiet() -> io::Result<()> {
    while farewell()? > SOON {}
    Ok(())
}

/// How long it takes to make a namespace with an interface in it, and until it is gone after it was left.
fn farewell() -> io::Result<Duration> {
    const ENDS: [&str; 2] = ["near", "far"];
    let start = Instant::now();
    unshare(CloneFlags::CLONE_NEWNET)?;
    let left = File::open("/proc/thread-self/ns/net")?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    with_netlink(async |handle| {
        handle.link().add(LinkVeth::new(ENDS[0], ENDS[1]).build()).execute().await?;
        handle.link().set(LinkUnspec::new_with_name(ENDS[1]).setns_by_fd(left.as_raw_fd()).build()).execute().await
    })?;
    drop(left);
    // One end goes with the other. Names are looked up without the lock.
    while if_nametoindex(ENDS[0]).is_ok() {
        thread::sleep(TICK);
    }
    Ok(start.elapsed())
}
