//! Requests and answers on the wire.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// How long a container may remember one of our names, in seconds: a container that is started again may have another address.
const TTL: u32 = 5;
/// The longest request over UDP that we read, and the longest answer that we send (RFC 6891 §6.2.5).
pub(super) const UDP_PAYLOAD: u16 = 4096;
/// The longest answer over UDP that we want from elsewhere: it gets through everywhere without fragments.
const UPSTREAM_PAYLOAD: u16 = 1232;
/// The longest answer over UDP for those who do not speak of it (RFC 1035 §2.3.4).
const PLAIN_PAYLOAD: u16 = 512;
/// Bytes of an address record without the address: a pointer to the question's name, type, class, TTL and length.
const ADDRESS_RECORD: usize = 12;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// One datagram.
    Udp,
    /// A message on a connection.
    Tcp,
}

/// A request with one question.
#[derive(Clone, Debug)]
pub(super) struct Request {
    message: Message,
    question: Query,
    transport: Transport,
}

/// What is no request that we could answer, and what to say to it, if anything.
#[derive(Debug)]
pub(super) struct Bad(pub(super) Option<Vec<u8>>);

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A name, and the family of the addresses that are wanted; none where it is for something else.
    Name(String, Option<bool>),
    /// The name of an address.
    Address(IpAddr),
    /// Nothing that we could know.
    Other,
}

/// What else but the question decides about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wishes {
    recursion: bool,
    checking_disabled: bool,
    authentic_data: bool,
    edns: bool,
    dnssec: bool,
}

impl Request {
    /// Reads one. Answers get no answer, or two servers could keep each other busy for ever.
    pub(super) fn read(bytes: &[u8], transport: Transport) -> Result<Self, Bad> {
        let Ok(Header { metadata, counts }) = Header::read(&mut BinDecoder::new(bytes)) else { return Err(Bad(None)) };
        let bad = |code| Bad(encode(&error(&metadata, code)));
        if metadata.message_type != MessageType::Query {
            return Err(Bad(None));
        }
        if metadata.op_code != OpCode::Query {
            return Err(bad(ResponseCode::NotImp));
        }
        // Judged before anything is read, since room is made for as many as are announced.
        if counts.queries != 1 {
            return Err(bad(ResponseCode::FormErr));
        }
        let Ok(message) = Message::from_vec(bytes) else { return Err(bad(ResponseCode::FormErr)) };
        let Some(question) = message.queries.first().cloned() else { return Err(bad(ResponseCode::FormErr)) };
        let request = Request { message, question, transport };
        if request.message.version() > 0 {
            return Err(Bad(Some(request.error(ResponseCode::BADVERS))));
        }
        if matches!(request.question.query_type, RecordType::AXFR | RecordType::IXFR) {
            return Err(Bad(Some(request.error(ResponseCode::Refused))));
        }
        Ok(request)
    }

    /// What is asked for.
    pub(super) fn subject(&self) -> Subject {
        let Query { name, query_type, query_class, .. } = &self.question;
        if !matches!(query_class, DNSClass::IN | DNSClass::ANY) {
            return Subject::Other;
        }
        if *query_type == RecordType::PTR
            && let Ok(net) = name.parse_arpa_name()
            && net.prefix_len() == net.max_prefix_len()
        {
            return Subject::Address(net.addr());
        }
        let family = match query_type {
            RecordType::A => Some(false),
            RecordType::AAAA => Some(true),
            _ => None,
        };
        text(name).map_or(Subject::Other, |name| Subject::Name(name, family))
    }

    /// The question.
    pub(super) fn question(&self) -> &Query {
        &self.question
    }

    /// What else decides about its answer.
    pub(super) fn wishes(&self) -> Wishes {
        let Metadata { recursion_desired, checking_disabled, authentic_data, .. } = self.message.metadata;
        Wishes {
            recursion: recursion_desired,
            checking_disabled,
            authentic_data,
            edns: self.message.edns.is_some(),
            dnssec: self.dnssec(),
        }
    }

    fn dnssec(&self) -> bool {
        self.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// How it came.
    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// How long an answer may be.
    fn limit(&self) -> usize {
        let limit = match (self.transport, &self.message.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_PAYLOAD,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_PAYLOAD, UDP_PAYLOAD),
        };
        limit.into()
    }

    /// An answer with nothing in it yet.
    fn response(&self, code: ResponseCode) -> Message {
        let mut response = error(&self.message.metadata, code);
        response.add_query(self.question.clone());
        if self.message.edns.is_some() {
            response.set_edns(edns(UDP_PAYLOAD, self.dnssec()));
        }
        response
    }

    fn encoded(&self, response: &Message) -> Vec<u8> {
        match encode(response) {
            Some(bytes) if bytes.len() <= self.limit() => bytes,
            Some(_) => self.truncated(response.metadata.response_code),
            // Cannot be: a question that was read can be written, and so can what we put behind it.
            None => encode(&error(&self.message.metadata, ResponseCode::ServFail)).unwrap_or_default(),
        }
    }

    /// "Too long: ask by TCP."
    fn truncated(&self, code: ResponseCode) -> Vec<u8> {
        let mut response = self.response(code);
        response.metadata.truncation = true;
        encode(&response).unwrap_or_default()
    }

    /// An answer that holds nothing but a code.
    pub(super) fn error(&self, code: ResponseCode) -> Vec<u8> {
        self.encoded(&self.response(code))
    }

    /// An answer with addresses; as many as fit.
    pub(super) fn addresses(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let mut response = self.response(ResponseCode::NoError);
        let taken = encode(&response).map_or(0, |bytes| bytes.len());
        let mut room = self.limit().saturating_sub(taken);
        for address in addresses {
            let (data, length) = match *address {
                IpAddr::V4(address) => (RData::A(address.into()), 4),
                IpAddr::V6(address) => (RData::AAAA(address.into()), 16),
            };
            let Some(rest) = room.checked_sub(ADDRESS_RECORD + length) else {
                response.metadata.truncation = true;
                break;
            };
            room = rest;
            response.add_answer(Record::from_rdata(self.question.name.clone(), TTL, data));
        }
        self.encoded(&response)
    }

    /// An answer with a name. None if it cannot be one in the DNS.
    pub(super) fn pointer(&self, name: &str) -> Option<Vec<u8>> {
        let mut name = Name::from_ascii(name).ok()?;
        name.set_fqdn(true);
        let mut response = self.response(ResponseCode::NoError);
        response.add_answer(Record::from_rdata(self.question.name.clone(), TTL, RData::PTR(PTR(name))));
        Some(self.encoded(&response))
    }

    /// The same question, to be asked elsewhere. It is written anew: what else a container puts into its message goes no further, such as
    /// options that are meant for its next neighbour alone (RFC 6891 §6.2.1).
    pub(super) fn forwarded(&self, id: u16) -> Option<Vec<u8>> {
        let wishes = self.wishes();
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = wishes.recursion;
        message.metadata.checking_disabled = wishes.checking_disabled;
        message.metadata.authentic_data = wishes.authentic_data;
        message.add_query(self.question.clone());
        if wishes.edns {
            message.set_edns(edns(UPSTREAM_PAYLOAD, wishes.dnssec));
        }
        encode(&message)
    }

    /// An answer from elsewhere, byte by byte but for its number: it may hold records that nobody here knows.
    pub(super) fn relayed(&self, reply: &Reply) -> Vec<u8> {
        if reply.bytes.len() > self.limit() {
            return self.truncated(reply.code);
        }
        let mut bytes = reply.bytes.clone();
        bytes[..2].copy_from_slice(&self.message.metadata.id.to_be_bytes());
        bytes
    }

    /// An answer that was given some seconds ago to the same question and wishes.
    pub(super) fn repeated(&self, bytes: &[u8], seconds: u32) -> Option<Vec<u8>> {
        let mut response = Message::from_vec(bytes).ok()?;
        response.metadata.id = self.message.metadata.id;
        // As it was asked now: resolvers may tell by upper and lower case whether they are meant.
        response.queries = vec![self.question.clone()];
        response.edns = self.response(ResponseCode::NoError).edns;
        let sections = [&mut response.answers, &mut response.authorities, &mut response.additionals];
        for record in sections.into_iter().flatten() {
            record.decrement_ttl(seconds);
        }
        Some(self.encoded(&response))
    }
}

/// An answer from another server.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// The lower half of its code.
    pub(super) code: ResponseCode,
    /// There is more, by TCP.
    pub(super) truncated: bool,
}

impl Reply {
    /// Reads one. None if it is not the answer to this question under this number.
    pub(super) fn read(bytes: Vec<u8>, id: u16, question: &Query) -> Option<Self> {
        let mut decoder = BinDecoder::new(&bytes);
        let Header { metadata, counts } = Header::read(&mut decoder).ok()?;
        let code = metadata.response_code;
        let same_question = match counts.queries {
            1 => Query::read(&mut decoder).is_ok_and(|asked| asked == *question),
            // Who could not read it need not repeat it.
            0 => code != ResponseCode::NoError,
            _ => false,
        };
        let fits = metadata.id == id && metadata.message_type == MessageType::Response && same_question;
        fits.then_some(Reply { code, truncated: metadata.truncation, bytes })
    }
}

/// A name as text, without the dot at its end. None if it is the root, or no text.
fn text(name: &Name) -> Option<String> {
    let printable = |label: &&[u8]| label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
    let labels: Option<Vec<_>> = name
        .iter()
        .map(|label| Some(label).filter(printable).and_then(|label| std::str::from_utf8(label).ok()))
        .collect();
    labels.map(|labels| labels.join(".")).filter(|name| !name.is_empty())
}

fn error(request: &Metadata, code: ResponseCode) -> Message {
    let mut response = Message::response(request.id, request.op_code);
    response.metadata = Metadata::response_from_request(request);
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response
}

fn edns(payload: u16, dnssec: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(0).set_dnssec_ok(dnssec);
    edns
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().ok()
}
