//! The forwarding table of a bridge: behind which port a container's Ethernet address is.
//!
//! The bridge does not learn addresses, since a container could then take another's; the agent knows them and enters them. Without an
//! entry, what the host sends to one container would be copied to all.

use futures_util::StreamExt;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::error::{Context, Error, Result};
use super::link::{Link, Netlink, io_error};

impl Netlink {
    /// Makes the bridge know for good that `mac` is behind `port`. Returns whether anything was to do.
    pub(super) async fn set_forwarding_entry(&self, port: &Link, mac: [u8; 6]) -> Result<bool> {
        if self.has_forwarding_entry(port, mac).await? {
            return Ok(false);
        }
        let entry = self.handle.neighbours().add_bridge(port.ifindex, &mac);
        // What `bridge fdb` calls static: it does not age, nor move to another port.
        let entry = entry.state(NeighbourState::Noarp).flags(NeighbourFlags::Controller).replace();
        let added = entry.execute().await;
        added.map_err(io_error).to(|| format!("tell the bridge of the container behind {}", port.name))?;
        Ok(true)
    }

    async fn has_forwarding_entry(&self, port: &Link, mac: [u8; 6]) -> Result<bool> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = port.ifindex;
        message.header.flags = NeighbourFlags::Controller;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(message));
        request.header.flags = NLM_F_REQUEST;
        let action = || format!("look up the container behind {}", port.name);
        let mut answers = self.handle.clone().request(request).map_err(io_error).to(action)?;
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry))) => {
                Ok(entry.header.ifindex == port.ifindex && entry.header.state == NeighbourState::Noarp)
            }
            Some(NetlinkPayload::Error(error)) if error.raw_code() == -libc::ENOENT => Ok(false),
            Some(NetlinkPayload::Error(error)) => Err(Error::io(action(), error)),
            _ => Ok(false),
        }
    }
}
