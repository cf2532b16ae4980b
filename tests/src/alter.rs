//! What happens to a machine's network while it runs: addresses and links that go, other routes, policy routing.

use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::fail::OrFail;
use crate::family::{Family, V4};
use crate::net::Net;

impl Net {
    /// Takes an interface down.
    #[track_caller]
    pub fn set_down(&self, interface: &str) {
        let index = self.link(interface).index;
        self.netlink("take a link down", async |handle| {
            handle.link().set(LinkUnspec::new_with_index(index).down().build()).execute().await
        });
    }

    /// Plugs `count` new interfaces into a bridge; they are never brought up.
    #[track_caller]
    pub fn crowd(&self, bridge: &str, count: usize) {
        let index = self.link(bridge).index;
        for pair in 0..count.div_ceil(2) {
            let names = [0, 1].map(|end| format!("port{}", 2 * pair + end));
            self.netlink("plug in a port", async |handle| {
                handle.link().add(LinkVeth::new(&names[0], &names[1]).build()).execute().await?;
                for name in names.iter().take(count - 2 * pair) {
                    let plug = LinkUnspec::new_with_name(name).controller(index).build();
                    handle.link().set(plug).execute().await?;
                }
                Ok(())
            });
        }
    }

    /// Sets the largest packet that an interface sends.
    #[track_caller]
    pub fn set_mtu(&self, interface: &str, mtu: u32) {
        let index = self.link(interface).index;
        self.netlink("set an MTU", async |handle| {
            handle.link().set(LinkUnspec::new_with_index(index).mtu(mtu).build()).execute().await
        });
    }

    /// Takes an address away from an interface.
    #[track_caller]
    pub fn remove_address(&self, interface: &str, address: IpAddr, prefix: u8) {
        let mut message = AddressMessage::default();
        message.header.index = self.link(interface).index;
        message.header.family = family(Family::of(address));
        message.header.prefix_len = prefix;
        // The kernel looks at "local" for IPv4 and at either for IPv6.
        message.attributes.push(AddressAttribute::Local(address));
        self.netlink("remove an address", async |handle| handle.address().del(message).execute().await);
    }

    /// Takes away the default route through `gateway`.
    #[track_caller]
    pub fn remove_default_route(&self, gateway: IpAddr) {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(Family::of(gateway).any(), 0)
            .and_then(|route| route.gateway(gateway))
            .or_fail(format_args!("name the route via {gateway}"))
            .build();
        self.netlink("remove a route", async |handle| handle.route().del(route).execute().await);
    }

    /// Takes `destination/prefix` for neighbours on an interface.
    #[track_caller]
    pub fn add_link_route(&self, interface: &str, destination: IpAddr, prefix: u8) {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination, prefix)
            .or_fail(format_args!("route {destination}/{prefix}"))
            .output_interface(self.link(interface).index)
            .scope(RouteScope::Link)
            .build();
        self.netlink("add a route", async |handle| handle.route().add(route).execute().await);
    }

    /// Sends everything that is looked up in routing table `table` through `gateway`.
    #[track_caller]
    pub fn add_default_route_to_table(&self, table: u32, gateway: IpAddr) {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(Family::of(gateway).any(), 0)
            .and_then(|route| route.gateway(gateway))
            .or_fail(format_args!("route table {table} via {gateway}"))
            .table_id(table)
            .build();
        self.netlink("add a route", async |handle| handle.route().add(route).execute().await);
    }

    /// Looks up packets from `source/prefix` in routing table `table` before all others.
    #[track_caller]
    pub fn add_source_rule(&self, source: IpAddr, prefix: u8, table: u8) {
        let mut rule = RuleMessage::default();
        rule.header.family = family(Family::of(source));
        rule.header.action = RuleAction::ToTable;
        rule.header.table = table;
        rule.header.src_len = prefix;
        rule.attributes.push(RuleAttribute::Source(source));
        self.netlink("add a rule", async |handle| {
            let mut request = handle.rule().add();
            *request.message_mut() = rule;
            request.execute().await
        });
    }
}

fn family(family: Family) -> AddressFamily {
    if family == V4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
