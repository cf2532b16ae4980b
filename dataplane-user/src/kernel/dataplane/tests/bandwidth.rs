//! How fast containers may be: which packets are accounted for, which die, and what others pay for it.

use super::{packets::*, *};

/// A byte in eight milliseconds, so that no bucket fills while a test runs: what is in it at first are 50 bytes, which one packet
/// overdraws for long.
pub(super) const SLOW: u64 = 1000;

impl Bench {
    /// Limits a container. A limit that it has stays as exhausted as it is.
    pub(super) fn limit(&mut self, slot: u32, limits: Limits) {
        let config = EndpointConfig { limits, ..self.endpoint(slot) };
        self.dataplane.set_endpoint(&config).unwrap();
    }

    /// Limits a container that was not limited before.
    fn limit_anew(&mut self, slot: u32, limits: Limits) {
        self.limit(slot, Limits::default());
        self.limit(slot, limits);
    }

    /// Asserts that a packet passes and the next one does not, for which the container in `slot` is counted.
    #[track_caller]
    fn passes_once(&mut self, slot: u32, reason: DropReason, send: impl Fn(&mut Bench) -> i32) {
        let before = self.drops(slot, reason);
        assert_ne!(send(self), SHOT, "the first one dies: {:?}", self.dataplane.drops());
        assert_eq!(self.drops(slot, reason), before);
        assert_eq!(send(self), SHOT, "the second one");
        assert_eq!(self.drops(slot, reason), before + 1, "{reason:?} is counted once");
    }
}

pub(super) fn ingress(rate: u64) -> Limits {
    Limits { ingress: Limit::new(rate, 0), ..Limits::default() }
}

pub(super) fn egress(rate: u64) -> Limits {
    Limits { egress: Limit::new(rate, 0), ..Limits::default() }
}

fn udp(slot: u32, from: IpAddr, to: IpAddr) -> Vec<u8> {
    Packet::new(slot, from, to, Payload::Udp(20_000, 53)).frame()
}

#[test]
fn what_a_container_sends_is_limited_wherever_it_goes() {
    on_bench(|bench| {
        for family in FAMILIES {
            for to in [family.b(), family.outside(), family.gateway()] {
                bench.limit_anew(A, egress(SLOW));
                let frame = udp(A, family.a(), to);
                bench.passes_once(A, DropReason::EgressRate, |bench| bench.sends(A, &frame).verdict);
                assert_ne!(bench.sends(B, &udp(B, family.b(), family.a())).verdict, SHOT, "nobody else is");
            }
        }
    });
}

#[test]
fn what_a_container_receives_is_limited_wherever_it_comes_from() {
    on_bench(|bench| {
        for (family, port) in FAMILIES.into_iter().zip([8080, 8081]) {
            // From a neighbour.
            bench.limit_anew(A, ingress(SLOW));
            let frame = udp(B, family.b(), family.a());
            bench.passes_once(A, DropReason::IngressRate, |bench| bench.sends(B, &frame).verdict);
            assert_eq!(bench.drops(B, DropReason::IngressRate), 0, "the sender is not at fault");
            assert_ne!(bench.sends(A, &udp(A, family.a(), family.b())).verdict, SHOT, "the other direction");
            // From outside to a published port, and from another network.
            bench.dataplane.publish(&[Bench::port(family, port, 80)]).unwrap();
            let syn = Payload::Tcp(4000, port, SYN);
            for from_outside in [true, false] {
                bench.limit_anew(A, ingress(SLOW));
                bench.passes_once(A, DropReason::IngressRate, |bench| match from_outside {
                    true => bench.arrives(&Packet::outside(family.outside(), family.host(), syn).frame()).verdict,
                    false => bench.sends(C, &Packet::new(C, family.c(), family.host(), syn).frame()).verdict,
                });
            }
            // The answer to what it has asked itself.
            bench.limit_anew(A, ingress(SLOW));
            let out = bench.sends(A, &udp(A, family.a(), family.outside()));
            let answer = Packet::outside(family.outside(), read(&out.frame).source, Payload::Udp(53, 20_000)).frame();
            bench.passes_once(A, DropReason::IngressRate, |bench| bench.arrives(&answer).verdict);
            // From the host, and copies of what is for a group, which come by way of the veth.
            for ingress_ifindex in [0, bench.veths[B as usize]] {
                bench.limit_anew(A, ingress(SLOW));
                let at = bench.veths[A as usize];
                let frame = udp(B, family.b(), family.a());
                bench.passes_once(A, DropReason::IngressRate, |bench| {
                    bench.at("to_container", &frame, at, ingress_ifindex).verdict
                });
            }
        }
    });
}

#[test]
fn a_limit_that_is_told_again_does_not_fill_the_bucket_and_one_that_goes_is_gone() {
    on_bench(|bench| {
        let frame = udp(A, Family::V4.a(), Family::V4.b());
        bench.limit(A, egress(SLOW));
        bench.passes_once(A, DropReason::EgressRate, |bench| bench.sends(A, &frame).verdict);
        bench.limit(A, egress(SLOW));
        assert_eq!(bench.sends(A, &frame).verdict, SHOT);
        let network = bench.network(1);
        let members = [EndpointConfig { limits: ingress(SLOW), ..bench.endpoint(A) }, bench.endpoint(B)];
        bench.dataplane.set_network(&network, &members).unwrap();
        bench.limit(A, Limits::default());
        assert_eq!(bench.sends(A, &frame).verdict, REDIRECT);
        assert_eq!(bench.dataplane.maps.limits.keys().count(), 0);
        bench.limit(A, ingress(SLOW));
        bench.dataplane.remove_endpoint(A).unwrap();
        assert_eq!(bench.dataplane.maps.limits.keys().count(), 0);
    });
}
