//! A small name server for a lab, over UDP and TCP, that answers from a list and remembers who asked; and questions to the name
//! server that containers have.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::fail::OrFail;
use crate::net::{Net, PATIENCE};
use crate::thread::{Background, TICK, patiently};

/// Where containers on user-defined networks ask for names.
pub const NAMES_AT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// How long the answers of a [`NameServer`] may be remembered.
pub const UPSTREAM_TTL: u32 = 60;

const PORT: u16 = 53;

/// How a [`NameServer`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// From its list; by UDP no longer than allowed.
    Answers,
    /// With SERVFAIL.
    Fails,
    /// Not at all.
    IsSilent,
}

/// A question that a [`NameServer`] was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The name without the dot at its end, in the case in which it came.
    pub name: String,
    /// What of it was wanted.
    pub kind: RecordType,
    /// Who asked.
    pub from: IpAddr,
    /// Over TCP rather than UDP.
    pub by_tcp: bool,
    /// The longest answer that the client takes, where it speaks of EDNS, and whether it wants signatures.
    pub edns: Option<(u16, bool)>,
}

/// A running name server.
pub struct NameServer {
    asked: Arc<Mutex<Vec<Asked>>>,
    _threads: [Background; 2],
}

impl Net {
    /// Starts a name server on port 53 of `ip` here, which knows these names and no other.
    #[track_caller]
    pub fn name_server(&self, ip: IpAddr, names: &[(&str, IpAddr)]) -> NameServer {
        self.name_server_that(Manner::Answers, ip, names)
    }

    /// The same with manners of its own.
    #[track_caller]
    pub fn name_server_that(&self, manner: Manner, ip: IpAddr, names: &[(&str, IpAddr)]) -> NameServer {
        let names: Vec<_> = names.iter().map(|(name, address)| (name.to_string(), *address)).collect();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let serving = Arc::new(Serving { manner, names, asked: asked.clone() });
        let what = || format!("serve names on {ip} in {}", self.name());
        let udp = self.udp_bind(ip, PORT).and_then(|socket| socket.set_read_timeout(Some(TICK)).map(|()| socket));
        let tcp =
            patiently(|| self.tcp_bind(ip, PORT)).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        let (udp, tcp) = (udp.or_fail(what()), tcp.or_fail(what()));
        NameServer { asked, _threads: [serving.clone().serve_udp(udp), serving.serve_tcp(tcp)] }
    }

    /// Asks the name server that this namespace has, by UDP.
    pub fn look_up(&self, name: &str, kind: RecordType) -> io::Result<Message> {
        self.ask_names(&question(name, kind))
    }

    /// The same by TCP.
    pub fn look_up_by_tcp(&self, name: &str, kind: RecordType) -> io::Result<Message> {
        let question = question(name, kind);
        let mut stream = self.tcp_open(NAMES_AT, PORT)?;
        exchange(&mut stream, &question.to_vec().map_err(Error::other)?).and_then(|answer| matching(&question, &answer))
    }

    /// Sends a message to the name server that this namespace has, by UDP, and waits for the answer.
    pub fn ask_names(&self, question: &Message) -> io::Result<Message> {
        let answer = self.ask_names_bytes(&question.to_vec().map_err(Error::other)?)?;
        matching(question, &answer)
    }

    /// The same with bytes.
    pub fn ask_names_bytes(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self.udp_bind(Ipv4Addr::LOCALHOST.into(), 0)?;
        socket.connect((NAMES_AT, PORT))?;
        socket.send(bytes)?;
        let mut buffer = vec![0; 1 << 16];
        let length = socket.recv(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The addresses of one family that this namespace's name server knows of a name, in the order of the answer. Panics at any answer but
    /// a good one.
    #[track_caller]
    pub fn addresses_of(&self, name: &str, kind: RecordType) -> Vec<IpAddr> {
        let answer = self.look_up(name, kind).or_fail(format_args!("look {name} up in {}", self.name()));
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name} in {}: {answer}", self.name());
        addresses(&answer)
    }

    /// The code with which this namespace's name server answers a question for IPv4 addresses.
    #[track_caller]
    pub fn names_code(&self, name: &str) -> ResponseCode {
        let answer = self.look_up(name, RecordType::A).or_fail(format_args!("look {name} up in {}", self.name()));
        answer.metadata.response_code
    }
}

/// A question for one kind of record, as a resolver asks it.
pub fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).or_fail(format_args!("ask for {name:?}"));
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

/// The addresses in an answer.
pub fn addresses(answer: &Message) -> Vec<IpAddr> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    answer.answers.iter().filter_map(address).collect()
}

/// Demands that this is an answer to that question.
fn matching(question: &Message, answer: &[u8]) -> io::Result<Message> {
    let answer = Message::from_vec(answer).map_err(Error::other)?;
    let same = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries.iter().zip(&question.queries).all(|(a, b)| a == b && a.name.eq_case(&b.name));
    same.then_some(())
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("no answer to {question}: {answer}")))?;
    Ok(answer)
}

/// Sends a message with its length in front, and reads one.
fn exchange(stream: &mut TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    write_message(stream, message)?;
    read_message(stream)
}

fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

impl NameServer {
    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it was asked so far about this name.
    pub fn asked_for(&self, name: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.name.eq_ignore_ascii_case(name)).collect()
    }
}

/// What a name server is made of.
struct Serving {
    manner: Manner,
    names: Vec<(String, IpAddr)>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Serving {
    fn serve_udp(self: Arc<Self>, socket: UdpSocket) -> Background {
        let mut buffer = [0; 4096];
        Background::repeat(move || {
            if let Ok((length, from)) = socket.recv_from(&mut buffer)
                && let Some(answer) = self.answer(&buffer[..length], from, false)
            {
                // A client that is gone asks no more.
                let _ = socket.send_to(&answer, from);
            }
        })
    }

    fn serve_tcp(self: Arc<Self>, listener: TcpListener) -> Background {
        Background::repeat(move || {
            let Ok((mut stream, from)) = listener.accept() else { return thread::sleep(TICK) };
            let serving = self.clone();
            thread::spawn(move || -> io::Result<()> {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                loop {
                    let question = read_message(&mut stream)?;
                    if let Some(answer) = serving.answer(&question, from, true) {
                        write_message(&mut stream, &answer)?;
                    }
                }
            });
        })
    }

    /// The answer to a question: the addresses of that family, nothing for a name without any, NXDOMAIN for an unknown one.
    fn answer(&self, bytes: &[u8], from: SocketAddr, by_tcp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(bytes).ok()?;
        let query = question.queries.first()?;
        let name = query.name.to_ascii().trim_end_matches('.').to_owned();
        let edns = question.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok));
        let asked = Asked { name, kind: query.query_type, from: from.ip(), by_tcp, edns };
        let name = asked.name.clone();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);

        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        if let Some((_, dnssec)) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(1400).set_dnssec_ok(dnssec);
            answer.set_edns(edns);
        }
        let known: Vec<_> = self.names.iter().filter(|(known, _)| known.eq_ignore_ascii_case(&name)).collect();
        answer.metadata.response_code = match self.manner {
            Manner::IsSilent => return None,
            Manner::Fails => ResponseCode::ServFail,
            Manner::Answers if known.is_empty() => ResponseCode::NXDomain,
            Manner::Answers => ResponseCode::NoError,
        };
        if self.manner == Manner::Answers {
            let data = known.iter().filter_map(|(_, address)| match (address, query.query_type) {
                (IpAddr::V4(address), RecordType::A) => Some(RData::A((*address).into())),
                (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA((*address).into())),
                _ => None,
            });
            answer.add_answers(data.map(|data| Record::from_rdata(query.name.clone(), UPSTREAM_TTL, data)));
        }
        let whole = answer.to_vec().ok()?;
        match by_tcp || whole.len() <= question.max_payload().into() {
            true => Some(whole),
            false => answer.truncate().to_vec().ok(),
        }
    }
}
