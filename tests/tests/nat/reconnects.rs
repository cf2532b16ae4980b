//! Thousands of connections one after the other from a few ports: a client that reconnects to a server as fast as it can, and
//! closes in every way there is.

use crate::connection::Connection;
use crate::packet::*;
use crate::sequence::*;

/// How many connections of each family, and from how many ports.
const CONNECTIONS: usize = 2500;
const PORTS: usize = 5;

pub fn sequences() -> Vec<Sequence> {
    vec![
        reconnects("out", |port| (tcp(A, 20100 + port, Far, 80, 0), tcp(Public, 20100 + port, Far, 80, 0))),
        reconnects("to a published port", |port| {
            (tcp(Far, 30100 + port, Public, 8080, 0), tcp(Far, 30100 + port, A, 80, 0))
        }),
    ]
}

fn reconnects(way: &str, ends: impl Fn(u16) -> (Packet, Packet)) -> Sequence {
    let mut sequence = Sequence::new(format!("{way}: {CONNECTIONS} connections from {PORTS} ports"));
    for count in 0..CONNECTIONS {
        let (sent, seen) = ends((count % PORTS) as u16);
        let life = count / PORTS;
        let connection = Connection::between(sequence, &sent, &seen).life(life as u32).open();
        let connection = match life % 4 {
            0 => connection.close(),
            1 => connection.client(|segment| segment.flags = RST | ACK),
            2 => connection.server(|segment| segment.flags = RST | ACK),
            _ => connection
                .server(|segment| segment.flags = FIN | ACK)
                .client(|segment| segment.flags = FIN | ACK)
                .server(|_| ()),
        };
        sequence = connection.done();
    }
    sequence
}
