//! The kernel's RCU grace periods are expedited while an agent changes something, and never left so. The switch is one for the whole
//! kernel, and other agents may use it at the same time, so what is looked for may take more than one look.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use spandrel_tests::*;

const SWITCH: &str = "/sys/kernel/rcu_expedited";

fn switch() -> String {
    fs::read_to_string(SWITCH).expect("the kernel tells").trim().to_string()
}

/// The switch is one test's at a time, and off at its end, however that comes.
struct Turn {
    _turn: MutexGuard<'static, ()>,
}

impl Turn {
    fn wait() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        Turn { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, "0");
    }
}

fn marker(site: &Site) -> PathBuf {
    site.host.path(RUN_DIR).join("rcu_expedited")
}

/// After a command nothing is expedited any more.
#[test]
fn the_switch_is_off_after_a_command() {
    let _turn = Turn::wait();
    let site = Site::with_networks(["red"]);
    site.host.run_container("--name web --network red -p 8080:80");
    site.host.spandrel("rm -f web").ok();
    site.host.spandrel("network rm red").ok();
    assert!(!marker(&site).exists());
    assert!(within(PATIENCE, || (switch() == "0").then_some(())).is_some(), "still {}", switch());
}

/// What a killed agent has left on is switched off by the next one.
#[test]
fn what_a_killed_agent_left_is_taken_back() {
    let _turn = Turn::wait();
    let mut site = Site::with_networks(["red"]);
    site.agent.kill();
    // As SIGKILL in the middle of a command leaves them.
    fs::write(marker(&site), "").expect("the run directory is there");
    fs::write(SWITCH, "1").expect("the switch can be written");
    site.agent = site.host.agent();
    assert!(!marker(&site).exists());
    assert!(within(PATIENCE, || (switch() == "0").then_some(())).is_some(), "still {}", switch());
}

/// What the administrator has switched on stays on.
#[test]
fn the_administrators_choice_stays() {
    let _turn = Turn::wait();
    let site = Site::new();
    let stayed = within(PATIENCE, || {
        fs::write(SWITCH, "1").expect("the switch can be written");
        site.host.spandrel("network create blue").ok();
        site.host.spandrel("network rm blue").ok();
        (switch() == "1").then_some(())
    });
    assert!(stayed.is_some(), "every command has switched it off");
}
