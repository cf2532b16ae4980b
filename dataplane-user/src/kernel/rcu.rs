//! Expedited RCU grace periods while interfaces and programs change.
//!
//! The kernel waits for a grace period, about four ticks of its clock, whenever a program is put at an interface or taken off, a map of
//! maps changes, or an interface goes. Networking itself asks for expedited ones, which take far less, where it holds its lock
//! (`synchronize_net` in `net/core/dev.c`), except on PREEMPT_RT, where their interruptions are not welcome. The BPF part does not ask;
//! `/sys/kernel/rcu_expedited` asks for it, only for as long as something is in flight, and by the same rule.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{Context, Result};

/// Where the kernel is told: 1 for expedited grace periods, 0 for what each caller asks for.
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// Says 1 on a PREEMPT_RT kernel, and is absent on others.
const REALTIME: &str = "/sys/kernel/realtime";

/// Switches expedited grace periods on and off. Clones share one count.
#[derive(Clone, Debug)]
pub struct GracePeriods {
    /// None: they are left as they are.
    switch: Option<Arc<Switch>>,
}

/// Grace periods are expedited until this, and every other one, is dropped.
#[derive(Debug)]
pub struct Expedited {
    switch: Option<Arc<Switch>>,
}

#[derive(Debug)]
struct Switch {
    file: PathBuf,
    /// Exists while the switch may be on because of us, so that an agent that was killed then does not leave it so.
    marker: PathBuf,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    count: usize,
    /// Whether the switch is on because of us.
    switched: bool,
}

impl GracePeriods {
    /// Takes back what an agent left that was killed: `marker` tells. Where `expedite` is false, the kernel is PREEMPT_RT, or the switch
    /// cannot be written, that is all that ever happens.
    pub fn new(expedite: bool, marker: &Path) -> Self {
        Self::at(SWITCH.as_ref(), marker, expedite && !is_realtime(REALTIME.as_ref()))
    }

    fn at(file: &Path, marker: &Path, expedite: bool) -> Self {
        let switch = Switch { file: file.into(), marker: marker.into(), users: Mutex::default() };
        switch.take_back();
        Self { switch: expedite.then(|| Arc::new(switch)) }
    }

    /// Expedites grace periods from here on, unless they are already.
    pub fn expedite(&self) -> Expedited {
        if let Some(switch) = &self.switch {
            switch.enter();
        }
        Expedited { switch: self.switch.clone() }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Some(switch) = &self.switch {
            switch.leave();
        }
    }
}

impl Switch {
    fn enter(&self) {
        let mut users = self.users();
        users.count += 1;
        if users.count == 1 {
            // Without it everything works, only slower.
            users.switched = self.turn_on().inspect_err(|error| tracing::debug!("{error}")).unwrap_or(false);
        }
    }

    fn leave(&self) {
        let mut users = self.users();
        users.count -= 1;
        if users.count == 0 && std::mem::take(&mut users.switched) {
            self.take_back();
        }
    }

    /// Returns whether it was off: then it is ours to turn off again.
    fn turn_on(&self) -> Result<bool> {
        let action = || format!("expedite grace periods by {}", self.file.display());
        if fs::read_to_string(&self.file).to(action)?.trim() != "0" {
            return Ok(false);
        }
        fs::write(&self.marker, "").to(|| format!("write {}", self.marker.display()))?;
        let written = fs::write(&self.file, "1").to(action);
        if written.is_err() {
            // Nothing is on, so the next agent has nothing to take back; at worst it writes a 0 where one stands.
            let _ = fs::remove_file(&self.marker);
        }
        written.map(|()| true)
    }

    /// Turns off what a marker says is on.
    fn take_back(&self) {
        if !self.marker.exists() {
            return;
        }
        let off =
            fs::write(&self.file, "0").to(|| format!("no longer expedite grace periods by {}", self.file.display()));
        let off = off.and_then(|()| fs::remove_file(&self.marker).to(|| format!("remove {}", self.marker.display())));
        off.unwrap_or_else(|error| tracing::error!("{error}"));
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        // The count is right whoever panicked: nothing can fail between its changes.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_realtime(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    /// A switch and a marker in a directory of their own.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new(value: &str) -> Self {
            let place = Place(tempfile::tempdir().unwrap());
            fs::write(place.switch(), value).unwrap();
            place
        }

        fn switch(&self) -> PathBuf {
            self.0.path().join("rcu_expedited")
        }

        fn marker(&self) -> PathBuf {
            self.0.path().join("marker")
        }

        fn grace_periods(&self, expedite: bool) -> GracePeriods {
            GracePeriods::at(&self.switch(), &self.marker(), expedite)
        }

        /// What the switch says, and whether there is a marker.
        fn state(&self) -> (String, bool) {
            (fs::read_to_string(self.switch()).unwrap().trim().to_string(), self.marker().exists())
        }
    }

    #[test]
    fn it_is_on_from_the_first_to_the_last() {
        let place = Place::new("0\n");
        let grace = place.grace_periods(true);
        let first = grace.expedite();
        assert_eq!(place.state(), ("1".into(), true));
        let second = grace.clone().expedite();
        drop(first);
        assert_eq!(place.state(), ("1".into(), true));
        drop(second);
        assert_eq!(place.state(), ("0".into(), false));
        drop(grace.expedite());
        assert_eq!(place.state(), ("0".into(), false));
    }

    #[test]
    fn what_the_administrator_has_switched_on_stays_on() {
        let place = Place::new("1\n");
        let grace = place.grace_periods(true);
        let guard = grace.expedite();
        assert_eq!(place.state(), ("1".into(), false));
        drop(guard);
        assert_eq!(place.state(), ("1".into(), false));
    }

    #[test]
    fn what_a_killed_agent_left_is_taken_back_by_the_next() {
        let place = Place::new("0\n");
        // As SIGKILL would: nothing is dropped.
        std::mem::forget(place.grace_periods(true).expedite());
        assert_eq!(place.state(), ("1".into(), true));
        // Also by one that is told to keep its hands off.
        let grace = place.grace_periods(false);
        assert_eq!(place.state(), ("0".into(), false));
        let guard = grace.expedite();
        assert_eq!(place.state(), ("0".into(), false));
        drop(guard);
        assert_eq!(place.state(), ("0".into(), false));
    }

    #[test]
    fn a_switch_that_is_not_there_is_left_alone() {
        let place = Place::new("0");
        fs::remove_file(place.switch()).unwrap();
        let grace = place.grace_periods(true);
        drop(grace.expedite());
        assert!(!place.switch().exists() && !place.marker().exists());
    }

    #[test]
    fn a_switch_that_cannot_be_written_leaves_no_marker() {
        let place = Place::new("0");
        // Root writes to any file but a sealed one.
        let sealed = File::from(memfd_create(c"switch", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        (&sealed).write_all(b"0").unwrap();
        fcntl(&sealed, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK)).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", sealed.as_raw_fd()));
        drop(GracePeriods::at(&path, &place.marker(), true).expedite());
        assert_eq!(fs::read_to_string(path).unwrap(), "0");
        assert!(!place.marker().exists());
    }

    #[test]
    fn a_realtime_kernel_says_so() {
        let place = Place::new("1\n");
        assert!(is_realtime(&place.switch()));
        fs::write(place.switch(), "0\n").unwrap();
        assert!(!is_realtime(&place.switch()));
        assert!(!is_realtime(&place.marker()));
    }
}
