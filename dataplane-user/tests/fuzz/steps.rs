//! What is done in a sequence, and how sequences are made up.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::oracle::{Came, Hook};
use crate::packet::{ACK, FIN, RST, SYN};
use crate::plan::{CONTAINERS, NETWORKS, UPLINKS};
use crate::recipe::{Body, Extra, Place, Recipe, Who};

/// An earlier packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Earlier {
    /// One of those that there are.
    Any(Index),
    /// The one that came of a step, counted from 0: what the former turns into when it was chosen, so that steps between the
    /// two can be left out.
    Of(usize, usize),
}

/// One thing that is done to a frame after it was made.
#[derive(Clone, Debug)]
pub(crate) enum Alteration {
    /// Flips one bit.
    Flip(Index, u8),
    /// Overwrites two bytes at an even place.
    Word(Index, u16),
    /// Cuts the frame.
    Cut(Index),
    /// Makes it longer by so many bytes.
    Pad(u8),
    /// Overwrites bytes from there on with those of an earlier frame.
    Splice(Index, Earlier, u8),
}

/// How a frame is changed, and how it is shown to the program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) alterations: Vec<Alteration>,
    /// Are checksums made right again afterwards?
    pub(crate) mend: bool,
    pub(crate) gso_size: u16,
    /// Has a network card summed it up?
    pub(crate) summed: bool,
}

/// Who complains of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accuser {
    /// Who got it.
    Receiver,
    /// Somebody on its way, or who says so, at the place of its receiver.
    Router(Who),
    /// A container that it is nothing to.
    Container(usize),
}

/// One step of a sequence.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A packet out of nothing.
    Send(Hook, Recipe, Change),
    /// Whoever got a packet answers it: flags, payload, time to live.
    Answer(Earlier, u8, u16, u8, Change),
    /// An earlier packet once more; over TCP with these flags.
    Again(Earlier, Option<u8>, Change),
    /// Whoever got a packet, or somebody else, says that something is wrong with it: type, code, rest, bytes quoted.
    Complain(Earlier, Accuser, (u8, u8, u32), u16, Change),
    /// An earlier packet in two or three pieces that begin at these bytes, the last one first if so.
    Cut(Earlier, u16, u16, bool),
    /// Any bytes.
    Raw(Hook, u16, Vec<u8>),
    /// A container goes and comes again.
    Restart(usize),
    /// The host's routes change.
    ChangeRoutes,
    /// Flows that have ended are swept out.
    CollectGarbage,
}

/// Sequences of up to `length` steps.
pub(crate) fn sequences(length: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..=length)
}

fn earlier() -> impl Strategy<Value = Earlier> {
    any::<Index>().prop_map(Earlier::Any)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => outgoing(),
        8 => incoming(),
        3 => brought(),
        14 => (earlier(), flags(), payload(), ttl(), change()).prop_map(|(to, flags, payload, ttl, change)| {
            Step::Answer(to, flags, payload, ttl, change)
        }),
        5 => (earlier(), prop::option::of(flags()), change()).prop_map(|(of, flags, change)| Step::Again(of, flags, change)),
        6 => (earlier(), accuser(), complaint(), quote(), change()).prop_map(|(about, by, what, bytes, change)| {
            Step::Complain(about, by, what, bytes, change)
        }),
        3 => (earlier(), 1..20_u16, 1..60_u16, any::<bool>()).prop_map(|(of, first, second, reversed)| {
            Step::Cut(of, first * 8, second * 8, reversed)
        }),
        2 => (hook(), ethertype(), prop::collection::vec(any::<u8>(), 0..120)).prop_map(|(hook, ethertype, bytes)| {
            Step::Raw(hook, ethertype, bytes)
        }),
        1 => (0..CONTAINERS.len()).prop_map(Step::Restart),
        1 => Just(Step::ChangeRoutes),
        1 => Just(Step::CollectGarbage),
    ]
}

/// Containers send, mostly from their own addresses.
fn outgoing() -> impl Strategy<Value = Step> {
    let sender = 0..CONTAINERS.len();
    (sender, prop::option::weighted(0.1, who()), recipe(), change()).prop_map(|(sender, liar, recipe, change)| {
        let source = liar.unwrap_or(Who::Container(sender));
        Step::Send(Hook::FromContainer(sender), Recipe { source, ..recipe }, change)
    })
}

/// Somebody outside sends.
fn incoming() -> impl Strategy<Value = Step> {
    let source = prop_oneof![
        6 => outsider(),
        1 => who(),
    ];
    (0..UPLINKS.len(), source, recipe(), change()).prop_map(|(uplink, source, recipe, change)| {
        Step::Send(Hook::FromUplink(uplink), Recipe { source, ..recipe }, change)
    })
}

/// The host's stack brings something.
fn brought() -> impl Strategy<Value = Step> {
    (hook(), who(), recipe(), change())
        .prop_map(|(hook, source, recipe, change)| Step::Send(hook, Recipe { source, ..recipe }, change))
}

fn hook() -> impl Strategy<Value = Hook> {
    prop_oneof![
        (0..CONTAINERS.len()).prop_map(Hook::FromContainer),
        (0..UPLINKS.len()).prop_map(Hook::FromUplink),
        (0..NETWORKS.len()).prop_map(Hook::FromBridge),
        (0..CONTAINERS.len(), came()).prop_map(|(container, came)| Hook::ToContainer(container, came)),
        (0..NETWORKS.len(), came()).prop_map(|(network, came)| Hook::ToBridge(network, came)),
        (0..UPLINKS.len(), came()).prop_map(|(uplink, came)| Hook::ToUplink(uplink, came)),
    ]
}

fn came() -> impl Strategy<Value = Came> {
    prop_oneof![
        Just(Came::Host),
        (0..CONTAINERS.len()).prop_map(Came::Container),
        (0..NETWORKS.len()).prop_map(Came::Bridge),
        (0..UPLINKS.len()).prop_map(Came::Uplink),
    ]
}

/// The source is for the caller to choose.
fn recipe() -> impl Strategy<Value = Recipe> {
    let extra = prop_oneof![
        20 => Just(Extra::Nothing),
        1 => (0..=10_u8).prop_map(Extra::Options),
        1 => Just(Extra::HopByHop),
    ];
    let place = (prop_oneof![2 => Just(0_u16), 1 => 0..200_u16], any::<bool>(), 0..3_u16);
    let place = place.prop_map(|(offset, more, id)| Place { offset, more, id });
    (any::<bool>(), who(), body(), ttl(), extra, prop::option::weighted(0.1, place), payload()).prop_map(
        |(v6, destination, body, ttl, extra, fragment, payload)| Recipe {
            v6,
            source: Who::Unspecified,
            destination,
            body,
            ttl,
            extra,
            fragment,
            payload,
        },
    )
}

fn outsider() -> impl Strategy<Value = Who> {
    prop_oneof![
        4 => (0..UPLINKS.len()).prop_map(Who::Beyond),
        1 => (0..UPLINKS.len()).prop_map(Who::Router),
        1 => any::<u32>().prop_map(Who::Stranger),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        6 => outsider(),
        6 => (0..UPLINKS.len()).prop_map(Who::Host),
        6 => (0..CONTAINERS.len()).prop_map(Who::Container),
        2 => (0..NETWORKS.len()).prop_map(Who::Gateway),
        1 => (0..CONTAINERS.len()).prop_map(Who::LinkLocal),
        1 => (0..NETWORKS.len()).prop_map(Who::Nobody),
        1 => (0..NETWORKS.len()).prop_map(Who::NetworkBroadcast),
        1 => prop::sample::select(vec![Who::Broadcast, Who::Multicast, Who::Loopback, Who::Unspecified]),
    ]
}

/// Few ports, so that packets meet: those of published ports on both sides, in and out of the pool.
fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        12 => prop::sample::select(vec![80_u16, 53, 8080, 5353, 9090, 9091, 90, 91, 7000, 20_000, 20_001, 40_000]),
        1 => any::<u16>(),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        6 => (port(), port(), flags(), number(), number()).prop_map(|(source, destination, flags, sequence, acknowledgment)| {
            Body::Tcp(source, destination, flags, sequence, acknowledgment)
        }),
        6 => (port(), port()).prop_map(|(source, destination)| Body::Udp(source, destination)),
        1 => (port(), port()).prop_map(|(source, destination)| Body::UnsummedUdp(source, destination)),
        3 => (0..3_u16, any::<bool>()).prop_map(|(id, request)| Body::Echo(id, request)),
        1 => any::<(u8, u8, u32)>().prop_map(|(kind, code, rest)| Body::Icmp(kind, code, rest)),
        1 => (133..=137_u8, who(), 0..CONTAINERS.len()).prop_map(|(kind, target, mac)| Body::Neighbor(kind, target, mac)),
        1 => (port(), port(), 0..4_u8).prop_map(|(source, destination, chunk)| Body::Sctp(source, destination, chunk)),
        1 => any::<u8>().prop_map(Body::Other),
        1 => (1..=2_u8, who(), who()).prop_map(|(operation, sender, target)| Body::Arp(operation, sender, target)),
    ]
}

fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![
        6 => Just(SYN),
        3 => Just(SYN | ACK),
        4 => Just(ACK),
        2 => Just(FIN | ACK),
        1 => Just(RST),
        1 => Just(RST | ACK),
        1 => any::<u8>(),
    ]
}

/// Sequence numbers; those of answers are chosen to fit.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(1000), 2 => 900..1100_u32, 1 => any::<u32>()]
}

fn ttl() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(64), 1 => Just(255), 1 => 0..3_u8]
}

fn payload() -> impl Strategy<Value = u16> {
    prop_oneof![6 => 0..64_u16, 1 => 1200..1600_u16]
}

fn ethertype() -> impl Strategy<Value = u16> {
    prop_oneof![3 => prop::sample::select(vec![0x0800_u16, 0x86dd, 0x0806, 0x8100, 0x88b5]), 1 => any::<u16>()]
}

/// Destination unreachable, packet too big, time exceeded, parameter problem; of both families, and any other.
fn complaint() -> impl Strategy<Value = (u8, u8, u32)> {
    prop_oneof![
        2 => (prop::sample::select(vec![1_u8, 2, 3, 4, 11, 12]), 0..5_u8, Just(0_u32)),
        2 => (Just(3_u8), Just(4_u8), Just(1400_u32)),
        2 => (Just(2_u8), Just(0_u8), Just(1400_u32)),
        1 => any::<(u8, u8, u32)>(),
    ]
}

fn accuser() -> impl Strategy<Value = Accuser> {
    prop_oneof![
        3 => Just(Accuser::Receiver),
        2 => who().prop_map(Accuser::Router),
        1 => (0..CONTAINERS.len()).prop_map(Accuser::Container),
    ]
}

fn quote() -> impl Strategy<Value = u16> {
    prop_oneof![2 => Just(u16::MAX), 2 => Just(28), 1 => 0..120_u16]
}

fn change() -> impl Strategy<Value = Change> {
    let alterations = prop_oneof![
        5 => Just(Vec::new()),
        2 => prop::collection::vec(alteration(), 1..4),
    ];
    let gso_size = prop_oneof![20 => Just(0_u16), 1 => 1..2000_u16];
    (alterations, any::<bool>(), gso_size, any::<bool>()).prop_map(|(alterations, mend, gso_size, summed)| Change {
        alterations,
        mend,
        gso_size,
        summed,
    })
}

fn alteration() -> impl Strategy<Value = Alteration> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), 0..8_u8).prop_map(|(at, bit)| Alteration::Flip(at, bit)),
        3 => (index(), prop_oneof![any::<u16>(), 0..64_u16]).prop_map(|(at, word)| Alteration::Word(at, word)),
        2 => index().prop_map(Alteration::Cut),
        1 => (1..64_u8).prop_map(Alteration::Pad),
        1 => (index(), earlier(), 1..40_u8).prop_map(|(at, of, length)| Alteration::Splice(at, of, length)),
    ]
}
