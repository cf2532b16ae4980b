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

/// Rows 4, 5, 9 and 14, and §7: what its sender has to cut into fragments arrives, and so does the answer.
#[test]
fn long_datagrams_arrive() {
    let site = Site::with_networks(["red", "blue"]);
    let server = site.host.run_container("--name server --network red -p 5353:53/udp");
    let neighbour = site.host.run_container("--name neighbour --network red");
    let other = site.host.run_container("--name other --network blue");
    for family in Family::BOTH {
        let _services = (site.internet.serve(Site::far(family)), server.serve(family.any()));
        let published = (site.public(family), 5353).into();
        let far = (Site::far(family), UDP_PORT).into();
        let ways: [(&Net, _); 5] =
            [(&other, far), (&server, far), (&site.internet, published), (&other, published), (&neighbour, published)];
        for (from, to) in ways {
            let socket = from.udp_bind(family.any(), 0).unwrap();
            for length in [1500, 2000, 9000, 40_000] {
                let text = "0123456789".repeat(length / 10);
                ask(&socket, to, &text).unwrap_or_else(|error| panic!("{} to {to}: {length}: {error}", from.name()));
            }
        }
    }
}
