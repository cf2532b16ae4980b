//! What the agent takes: memory, and wake-ups while nothing happens.

use spandrel_tests::*;

/// Kibibytes: what the agent may need with thousands of ports and endpoints.
const MEMORY: u64 = 40 << 10;

/// Ten thousand ports and some tens of namespaces with names take little: what a command needs on the way is given back.
#[test]
fn the_agent_needs_little_memory() {
    let site = Site::with_networks(["front"]);
    site.host.run_container("--name server --network front");
    site.host.spandrel("publish server 20000-29999:20000-29999").ok();
    for number in 0..40 {
        site.host.add_netns(&format!("box{number}"));
        site.host.spandrel(&format!("attach --network front box{number}")).ok();
    }
    assert_eq!(site.host.map_entries("published"), 20_000);
    let resident = site.agent.status("VmRSS");
    assert!(resident <= MEMORY, "{resident} KiB, of these {} KiB not of files", site.agent.status("RssAnon"));
}
