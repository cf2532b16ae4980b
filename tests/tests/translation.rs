//! SEMANTICS §7: translation does not get into the way of the host's own traffic.

use spandrel_tests::*;

/// Row 14 and §7: a container has been given a port of the host towards a destination, and then the host itself uses that port to the
/// same one: both are answered. (As the kernel's own translation does, the second one may be seen under another port.)
#[test]
fn the_host_may_use_a_port_that_a_container_has_been_given() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let far = Site::far(family);
        let _services = site.internet.serve(far);
        let theirs = container.udp_bind(family.any(), 0).unwrap();
        let given = ask(&theirs, (far, UDP_PORT).into(), "who am I?").expect("the container's");
        let own = site.host.udp_bind(family.any(), given.port()).unwrap();
        for text in ["one", "two"] {
            let seen = ask(&own, (far, UDP_PORT).into(), text).expect("the host's own");
            assert_eq!(seen.ip(), site.public(family));
            assert_eq!(ask(&theirs, (far, UDP_PORT).into(), text).expect("the container's, still"), given);
        }
    }
}

/// Row 14 and §7: a container and the host ping one machine with the same identifier, as busybox does in each container: each is
/// answered.
#[test]
fn the_host_may_ping_with_an_identifier_that_a_container_has() {
    let site = Site::with_networks(["red"]);
    let boxes = ["one", "two"].map(|name| site.host.run_container(&format!("--name {name} --network red")));
    for family in Family::BOTH {
        for _ in 0..2 {
            for net in [&*boxes[0], &boxes[1], &*site.host] {
                net.ping_as(7, Site::far(family)).unwrap_or_else(|error| panic!("{}: {error}", net.name()));
            }
        }
    }
}
