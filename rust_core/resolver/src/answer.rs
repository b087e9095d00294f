//! What becomes of one message: nothing, an answer, or the question to others. It does no I/O.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, PushError, StaticCompressor};
use domain::base::{Message, MessageBuilder, Name, ParsedName, Question, ToName, Ttl};
use domain::rdata::{Aaaa, Ptr, A};

use crate::limits::{OWN_DATAGRAM_BYTES, PLAIN_DATAGRAM_BYTES, TTL_SECONDS};
use crate::table::{Found, Table};

/// Room that an answer keeps for what it says about EDNS. Source: RFC 6891 6.1.2.
const OPT_BYTES: usize = 11;

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not a question, or cannot be one.
    Ignore,
    /// This goes back.
    Answer(Vec<u8>),
    /// The name servers are asked as it stands; an answer may have so many bytes.
    Forward(usize),
}

type Builder = AnswerBuilder<StaticCompressor<Vec<u8>>>;

/// What the client's message comes to. `by_tcp`: an answer may have any length.
pub fn decide(table: &Table, client: &str, bytes: &[u8], by_tcp: bool) -> Verdict {
    let Ok(message) = Message::from_slice(bytes) else { return Verdict::Ignore };
    if message.header().qr() {
        return Verdict::Ignore;
    }
    if message.header().opcode() != Opcode::QUERY {
        return Verdict::Answer(refusal(message, Rcode::NOTIMP));
    }
    let Ok(question) = message.sole_question() else {
        return Verdict::Answer(refusal(message, Rcode::FORMERR));
    };
    let room = room_of(message, by_tcp);
    let name = question.qname().to_string().trim_end_matches('.').to_ascii_lowercase();
    let found = match question.qclass() {
        Class::IN => table.find(client, &name),
        _ => Found::Nothing,
    };
    let answered = match found {
        Found::Addresses(addresses) => addresses_of(message, &question, &addresses, room),
        Found::Name(name) if question.qtype() == Rtype::PTR => name_of(message, &question, &name, room),
        Found::Name(_) | Found::Nothing => return Verdict::Forward(room),
    };
    Verdict::Answer(answered.unwrap_or_else(|_| refusal(message, Rcode::SERVFAIL)))
}

/// The error as an answer to the message, whatever of it can be read.
pub fn refusal(message: &Message<[u8]>, code: Rcode) -> Vec<u8> {
    let mut builder = empty().start_error(message, code);
    builder.header_mut().set_ra(true);
    builder.finish().into_target()
}

/// The answer of a name server if it fits, else its head with the mark that there is more by TCP.
pub fn fitting(answer: Vec<u8>, room: usize) -> Vec<u8> {
    if answer.len() <= room {
        return answer;
    }
    let Ok(message) = Message::from_slice(&answer) else { return answer };
    let mut builder = empty().start_error(message, message.header().rcode());
    builder.header_mut().set_ra(true);
    builder.header_mut().set_tc(true);
    builder.finish().into_target()
}

/// Bytes that an answer may have. Source: RFC 6891 6.2.3, what is below 512 counts as 512.
fn room_of(message: &Message<[u8]>, by_tcp: bool) -> usize {
    if by_tcp {
        return usize::from(u16::MAX);
    }
    let told = message.opt().map_or(0, |opt| usize::from(opt.udp_payload_size()));
    told.clamp(PLAIN_DATAGRAM_BYTES, crate::limits::MAX_DATAGRAM_BYTES)
}

fn empty() -> MessageBuilder<StaticCompressor<Vec<u8>>> {
    match MessageBuilder::from_target(StaticCompressor::new(Vec::with_capacity(PLAIN_DATAGRAM_BYTES))) {
        Ok(builder) => builder,
        Err(never) => match never {},
    }
}

fn begun(message: &Message<[u8]>, room: usize) -> Result<Builder, PushError> {
    let mut builder = empty().start_answer(message, Rcode::NOERROR)?;
    builder.set_push_limit(room - OPT_BYTES);
    builder.header_mut().set_aa(true);
    builder.header_mut().set_ra(true);
    Ok(builder)
}

fn addresses_of<Octs: AsRef<[u8]>>(
    message: &Message<[u8]>,
    question: &Question<ParsedName<Octs>>,
    addresses: &[IpAddr],
    room: usize,
) -> Result<Vec<u8>, PushError>
where
    ParsedName<Octs>: ToName,
{
    let mut builder = begun(message, room)?;
    let (name, ttl) = (question.qname(), Ttl::from_secs(TTL_SECONDS));
    // Who asks again begins with another of several, as the number of a question is random.
    let turn = usize::from(message.header().id()) % addresses.len().max(1);
    for address in addresses[turn..].iter().chain(&addresses[..turn]) {
        let pushed = match (question.qtype(), address) {
            (Rtype::A, IpAddr::V4(address)) => builder.push((name, Class::IN, ttl, A::new(*address))),
            (Rtype::AAAA, IpAddr::V6(address)) => builder.push((name, Class::IN, ttl, Aaaa::new(*address))),
            // The name is there; there is nothing of this type.
            _ => Ok(()),
        };
        if pushed.is_err() {
            builder.header_mut().set_tc(true);
            break;
        }
    }
    finished(message, builder)
}

fn name_of<Octs: AsRef<[u8]>>(
    message: &Message<[u8]>,
    question: &Question<ParsedName<Octs>>,
    name: &str,
    room: usize,
) -> Result<Vec<u8>, PushError>
where
    ParsedName<Octs>: ToName,
{
    let mut builder = begun(message, room)?;
    // A name with a part of more than 63 bytes is none of DNS: the address has none then.
    if let Ok(target) = name.parse::<Name<Vec<u8>>>() {
        builder.push((question.qname(), Class::IN, Ttl::from_secs(TTL_SECONDS), Ptr::new(target)))?;
    }
    finished(message, builder)
}

fn finished(message: &Message<[u8]>, mut builder: Builder) -> Result<Vec<u8>, PushError> {
    builder.clear_push_limit();
    let mut builder = builder.additional();
    if message.opt().is_some() {
        builder.opt(|opt| {
            opt.set_udp_payload_size(OWN_DATAGRAM_BYTES);
            Ok(())
        })?;
    }
    Ok(builder.finish().into_target())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::Client;

    fn table() -> Table {
        let table = Table::default();
        let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let addresses = ["10.9.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        table.put("n", "front", "a", &texts(&["Web", "alias"]), &addresses);
        for number in 3..67 {
            let holder = number.to_string();
            table.put(
                "n",
                "front",
                &holder,
                &texts(&["many"]),
                &[format!("10.9.0.{number}").parse().unwrap()],
            );
        }
        table.put("other", "back", "b", &texts(&["db"]), &["10.10.0.2".parse().unwrap()]);
        table.set_client("c", Client { networks: texts(&["n"]), servers: Vec::new() });
        table
    }

    fn question(name: &str, kind: Rtype, edns: Option<u16>) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec().question();
        builder.header_mut().set_id(7);
        builder.header_mut().set_rd(true);
        builder.push((name.parse::<Name<Vec<u8>>>().unwrap(), kind)).unwrap();
        let mut builder = builder.additional();
        if let Some(size) = edns {
            let sized = builder.opt(|opt| {
                opt.set_udp_payload_size(size);
                Ok(())
            });
            sized.unwrap();
        }
        builder.finish()
    }

    fn answered(bytes: &[u8], by_tcp: bool) -> Message<Vec<u8>> {
        match decide(&table(), "c", bytes, by_tcp) {
            Verdict::Answer(answer) => Message::from_octets(answer).expect("a message"),
            other => panic!("{other:?}"),
        }
    }

    fn shown(name: &str, kind: Rtype) -> Vec<String> {
        let message = answered(&question(name, kind, None), false);
        assert!(message.is_answer(Message::from_slice(&question(name, kind, None)).unwrap()));
        assert!(
            message.no_error() && message.header().aa() && message.header().ra() && message.header().rd()
        );
        let records = message.answer().unwrap().map(|record| record.unwrap());
        records
            .map(|one| {
                one.into_any_record::<domain::rdata::AllRecordData<_, _>>().unwrap().data().to_string()
            })
            .collect()
    }

    #[test]
    fn names_of_the_clients_networks_are_answered_whatever_their_case() {
        assert_eq!(shown("WEB.", Rtype::A), ["10.9.0.2"]);
        assert_eq!(shown("alias.front.", Rtype::AAAA), ["fd00::2"]);
        assert_eq!(shown("web", Rtype::MX), Vec::<String>::new());
        assert_eq!(shown("2.0.9.10.in-addr.arpa", Rtype::PTR), ["web.front."]);
    }

    #[test]
    fn everything_else_is_for_the_name_servers() {
        for (name, kind) in [
            ("db", Rtype::A),
            ("example.org", Rtype::A),
            ("2.0.10.10.in-addr.arpa", Rtype::PTR),
            (".", Rtype::NS),
        ] {
            assert_eq!(
                decide(&table(), "c", &question(name, kind, None), false),
                Verdict::Forward(512),
                "{name}"
            );
        }
        assert_eq!(
            decide(&table(), "c", &question("db", Rtype::A, Some(1232)), false),
            Verdict::Forward(1232)
        );
        assert_eq!(decide(&table(), "c", &question("db", Rtype::A, Some(1)), false), Verdict::Forward(512));
        assert_eq!(
            decide(&table(), "c", &question("db", Rtype::A, Some(65535)), false),
            Verdict::Forward(4096)
        );
        assert_eq!(
            decide(&table(), "unknown", &question("web", Rtype::A, None), true),
            Verdict::Forward(65535)
        );
    }

    #[test]
    fn an_answer_that_is_too_long_says_so_and_is_whole_by_tcp_or_with_edns() {
        for (edns, by_tcp, is_cut) in [(None, false, true), (Some(4096), false, false), (None, true, false)] {
            let message = answered(&question("many", Rtype::A, edns), by_tcp);
            let count = message.header_counts().ancount();
            assert_eq!((message.header().tc(), count < 64), (is_cut, is_cut), "{edns:?} {by_tcp}: {count}");
            assert!(!is_cut || message.as_slice().len() <= 512);
            assert_eq!(message.opt().is_some(), edns.is_some());
        }
    }

    #[test]
    fn what_is_no_question_is_ignored_or_refused() {
        let asked = question("web", Rtype::A, None);
        let changed = |at: usize, to: u8| {
            let mut bytes = asked.clone();
            bytes[at] = to;
            bytes
        };
        for ignored in [&b""[..], &asked[..11], &changed(2, 0x81)] {
            assert_eq!(decide(&table(), "c", ignored, false), Verdict::Ignore);
        }
        for (bytes, code) in [
            (changed(2, 0x28), Rcode::NOTIMP),
            (changed(5, 0), Rcode::FORMERR),
            (changed(5, 2), Rcode::FORMERR),
            (asked[..14].to_vec(), Rcode::FORMERR),
            (changed(12, 0xc0), Rcode::FORMERR),
        ] {
            assert_eq!(answered(&bytes, false).header().rcode(), code, "{bytes:?}");
        }
    }

    #[test]
    fn answers_of_servers_are_cut_where_they_do_not_fit() {
        let answer = |builder: MessageBuilder<Vec<u8>>| {
            let asked = question("example.org", Rtype::A, None);
            let mut builder =
                builder.start_answer(Message::from_slice(&asked).unwrap(), Rcode::NOERROR).unwrap();
            let name = "example.org".parse::<Name<Vec<u8>>>().unwrap();
            for number in 0..60 {
                builder.push((&name, 60, A::from_octets(192, 0, 2, number))).unwrap();
            }
            builder.finish()
        };
        let long = answer(MessageBuilder::new_vec());
        assert_eq!(fitting(long.clone(), long.len()), long);
        let cut = Message::from_octets(fitting(long, 512)).unwrap();
        assert!(cut.header().tc() && cut.header_counts().ancount() == 0 && cut.sole_question().is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..600), by_tcp: bool) {
            if let Verdict::Answer(answer) = decide(&table(), "c", &bytes, by_tcp) {
                prop_assert!(Message::from_octets(answer).is_ok());
            }
        }

        #[test]
        fn nor_do_bytes_that_begin_as_a_question(
            name in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..40, byte: u8, cut in 12_usize..60,
        ) {
            let mut bytes = question("web.front", Rtype::A, Some(1232));
            bytes.splice(12..12, name);
            let place = at % bytes.len();
            bytes[place] = byte;
            bytes.truncate(bytes.len().min(cut * 8));
            if let Verdict::Answer(answer) = decide(&table(), "c", &bytes, false) {
                prop_assert!(answer.len() <= 4096 && Message::from_octets(answer).is_ok());
            }
            let _ = fitting(bytes, 20);
        }
    }
}
