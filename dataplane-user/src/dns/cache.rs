//! Answers from elsewhere, kept as long as their records allow (RFC 1035 §3.2.1, RFC 2308 §5).

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, LowerName, RData, RecordType};
use lru::LruCache;

use super::message::{Reply, Request, Wishes};

/// Bytes of an answer that is worth keeping.
const LONGEST: usize = 4096;
/// Nothing is kept longer than this, whatever it says (RFC 8767 §4).
const LONGEST_TTL: u32 = 86_400;
/// Nor that there is nothing (RFC 2308 §5).
const LONGEST_NEGATIVE_TTL: u32 = 3_600;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: LowerName,
    query_type: RecordType,
    query_class: DNSClass,
    wishes: Wishes,
}

impl Key {
    fn of(request: &Request) -> Self {
        let Query { name, query_type, query_class, .. } = request.question();
        let (query_type, query_class) = (*query_type, *query_class);
        Key { name: LowerName::new(name), query_type, query_class, wishes: request.wishes() }
    }
}

#[derive(Debug)]
struct Entry {
    bytes: Vec<u8>,
    since: Instant,
    lifetime: Duration,
}

/// The answers of one set of servers.
#[derive(Debug)]
pub(super) struct Cache(LruCache<Key, Entry>);

impl Cache {
    /// One that keeps so many answers; the one that was used least lately goes first.
    pub(super) fn new(entries: NonZeroUsize) -> Self {
        // It grows as it is needed, where one made with its size would take the memory at once.
        let mut cache = LruCache::unbounded();
        cache.resize(entries);
        Cache(cache)
    }

    /// The answer to a request, as it would be given now.
    pub(super) fn find(&mut self, request: &Request, now: Instant) -> Option<Vec<u8>> {
        let key = Key::of(request);
        let entry = self.0.get(&key)?;
        let age = now.saturating_duration_since(entry.since);
        if age >= entry.lifetime {
            self.0.pop(&key);
            return None;
        }
        // Below the longest lifetime, which fits.
        request.repeated(&entry.bytes, age.as_secs() as u32)
    }

    /// Keeps an answer, if its records allow it.
    pub(super) fn keep(&mut self, request: &Request, reply: &Reply, now: Instant) {
        if let Some(lifetime) = lifetime(reply) {
            self.0.put(Key::of(request), Entry { bytes: reply.bytes.clone(), since: now, lifetime });
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn lifetime(reply: &Reply) -> Option<Duration> {
    if reply.truncated || reply.bytes.len() > LONGEST {
        return None;
    }
    let message = Message::from_vec(&reply.bytes).ok()?;
    let negative = match message.metadata.response_code {
        ResponseCode::NoError => message.answers.is_empty(),
        ResponseCode::NXDomain => true,
        _ => return None,
    };
    let shortest = message.all_sections().map(|record| record.ttl).min();
    let ttl = if negative {
        // Without the zone's own word nobody knows how long there will be nothing.
        let minimum = message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum),
            _ => None,
        })?;
        shortest?.min(minimum).min(LONGEST_NEGATIVE_TTL)
    } else {
        shortest?.min(LONGEST_TTL)
    };
    (ttl > 0).then(|| Duration::from_secs(ttl.into()))
}

#[cfg(test)]
pub(super) mod tests {
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, Record};

    use super::super::message::Transport;
    use super::*;

    /// Reads a reply, passes it on, keeps it and repeats it, as far as it lets itself.
    pub(in super::super) fn is_kept_or_not(request: &Request, bytes: Vec<u8>) {
        let Some(reply) = Reply::read(bytes, 7, request.question()) else { return };
        assert!(request.relayed(&reply).len() <= 512);
        let (mut cache, now) = (Cache::new(NonZeroUsize::MIN), Instant::now());
        cache.keep(request, &reply, now);
        if let Some(again) = cache.find(request, now + Duration::from_secs(1)) {
            assert!(again.len() <= 512);
        }
    }

    fn request(name: &str) -> Request {
        let mut message = Message::new(1, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        Request::read(&message.to_vec().unwrap(), Transport::Udp).unwrap()
    }

    fn reply(request: &Request, code: ResponseCode, build: impl FnOnce(&mut Message)) -> Reply {
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(request.question().clone());
        message.metadata.response_code = code;
        build(&mut message);
        Reply::read(message.to_vec().unwrap(), 7, request.question()).unwrap()
    }

    fn record(request: &Request, ttl: u32) -> Record {
        Record::from_rdata(request.question().name.clone(), ttl, RData::A(A::new(192, 0, 2, 1)))
    }

    fn zone(minimum: u32) -> Record {
        let soa = SOA::new(Name::root(), Name::root(), 1, 2, 3, 4, minimum);
        Record::from_rdata(Name::root(), 1000, RData::SOA(soa))
    }

    #[test]
    fn an_answer_lives_as_long_as_its_shortest_record() {
        let (mut cache, now) = (Cache::new(NonZeroUsize::MIN), Instant::now());
        let asked = request("www.example.org.");
        let answer = reply(&asked, ResponseCode::NoError, |message| {
            message.add_answer(record(&asked, 300));
            message.add_additional(record(&asked, 60));
        });
        cache.keep(&asked, &answer, now);
        // In other letters it is the same name, and told as it is asked for now.
        let again = request("WWW.example.org.");
        let at = |cache: &mut Cache, seconds| {
            let found = cache.find(&again, now + Duration::from_secs(seconds))?;
            Some(Message::from_vec(&found).unwrap())
        };
        let found = at(&mut cache, 59).unwrap();
        assert_eq!((found.metadata.id, found.answers[0].ttl, found.additionals[0].ttl), (1, 241, 1));
        assert!(found.queries[0].name.eq_case(&again.question().name));
        assert!(at(&mut cache, 60).is_none());
        // One place, and it is the latest that has it.
        cache.keep(&asked, &answer, now);
        let other = request("other.example.org.");
        cache.keep(
            &other,
            &reply(&other, ResponseCode::NoError, |message| _ = message.add_answer(record(&other, 9))),
            now,
        );
        assert!(cache.find(&other, now).is_some() && cache.find(&asked, now).is_none());
    }

    #[test]
    fn nothing_is_kept_as_long_as_its_zone_says() {
        let asked = request("none.example.org.");
        let kept =
            |code, build: &dyn Fn(&mut Message)| lifetime(&reply(&asked, code, build)).map(|life| life.as_secs());
        assert_eq!(kept(ResponseCode::NXDomain, &|message| _ = message.add_authority(zone(30))), Some(30));
        assert_eq!(kept(ResponseCode::NoError, &|message| _ = message.add_authority(zone(30))), Some(30));
        assert_eq!(kept(ResponseCode::NXDomain, &|message| _ = message.add_authority(zone(u32::MAX))), Some(1000));
        assert_eq!(kept(ResponseCode::NXDomain, &|_| {}), None);
        assert_eq!(kept(ResponseCode::ServFail, &|message| _ = message.add_authority(zone(30))), None);
        assert_eq!(kept(ResponseCode::NoError, &|message| _ = message.add_answer(record(&asked, 0))), None);
        let truncated = |message: &mut Message| {
            message.add_answer(record(&asked, 9));
            message.metadata.truncation = true;
        };
        assert_eq!(kept(ResponseCode::NoError, &truncated), None);
    }
}
