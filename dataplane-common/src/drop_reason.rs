//! Why a packet died: a closed list with a sentence each. Numbers are never reused, since counters outlive upgrades.

macro_rules! drop_reasons {
    ($($name:ident = $number:literal, $text:literal;)+) => {
        /// Why the data plane dropped a packet.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum DropReason {
            $(#[doc = $text] $name = $number,)+
        }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason's name, as counters and the log show it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What happened, in one sentence.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The reason with this number, if there is one.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

drop_reasons! {
    UnknownInterface = 1, "The packet came from an interface that carries our program but belongs to no endpoint.";
    SpoofedMac = 2, "The container sent from a MAC address that is not its own.";
    SpoofedSource = 3, "The container sent from an IP address that is not its own.";
    SpoofedArp = 4, "The container's ARP packet claims an address that is not its own.";
    Malformed = 5, "The packet is shorter than its headers say, or its IP header is not valid.";
    OtherNetwork = 6, "The destination is a container of another network.";
    InternalNetwork = 7, "The network is internal: its containers reach nothing outside.";
    IccDisabled = 8, "The network does not let its containers talk to each other (enable_icc=false).";
    DirectAccess = 9, "From outside straight to a container's address; only published ports are open.";
    NoFlow = 10, "The packet belongs to no flow and may not open one.";
    UnsupportedProtocol = 11, "The ICMP message neither asks nor answers, nor tells of an error: there is no flow that it could belong to.";
    Fragment = 12, "Only the packet's first fragment tells whose this one is, and that one did not come in time, or could not be translated.";
    NoUplink = 14, "The route leads out of an interface that is not an uplink.";
    NoUplinkAddress = 15, "The uplink has no address of this family to masquerade with.";
    NoPort = 16, "No free port was found on the uplink's address for this flow.";
    FlowTableFull = 17, "The flow table is full.";
    FlowQuota = 18, "The endpoint has as many flows as it may have.";
    RewriteFailed = 19, "The kernel refused to rewrite the packet.";
    Unmasqueraded = 20, "The packet would have left an uplink with a container's private address.";
    NotAllowed = 21, "The client is not among those that may use the published port (allow-from).";
    BadChecksum = 22, "The packet would have opened a flow, but its checksum is wrong.";
    FloodingClient = 23, "The client opens flows to the published port faster than its limit allows (rate-limit).";
    SpoofedOutside = 24, "From outside with a container's address as its source, or to a container with the host's.";
    IsolatedNetwork = 25, "The network is isolated: not even the host reaches its containers, nor they the host.";
    Martian = 26, "The destination is an address to which nothing is ever routed, such as 127.0.0.1 or 0.0.0.0.";
    Tagged = 27, "The container sent a frame with a VLAN tag; its network has no VLANs.";
    OtherFamily = 28, "Between a client's IPv6 and a container's IPv4: a fragment, an extension header, an ICMP error, or a packet too big or too old.";
    IngressRate = 29, "The container receives more than its ingress rate allows.";
    EgressRate = 30, "The container sends more than its egress rate allows.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_guide_lists_every_reason() {
        let guide = include_str!("../../docs/operations.md");
        let (_, rest) = guide.split_once("<!-- reasons -->\n").unwrap();
        let (table, _) = rest.split_once("<!-- end -->").unwrap();
        let wanted: String =
            DropReason::ALL.iter().map(|reason| format!("| `{}` | {} |\n", reason.name(), reason.text())).collect();
        assert_eq!(table, wanted);
    }

    #[test]
    fn numbers_name_one_reason_each() {
        for &reason in DropReason::ALL {
            assert_eq!(DropReason::from_number(reason as u32), Some(reason));
            assert!(reason.text().ends_with('.'), "{} has no sentence", reason.name());
        }
        assert_eq!(DropReason::from_number(0), None);
    }
}
