//! DNS messages (RFC 1035): one question read, answers written. Foreign answers are passed on as they came.
//!
//! Questions come from containers and answers from the network, so that every read is checked against the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::{LABEL, NAME, TIME_TO_LIVE};
use crate::name::Name;

/// Bytes of the header, which every message has.
pub(crate) const HEADER: usize = 12;
const RESPONSE: u8 = 0x80;
const AUTHORITATIVE: u8 = 0x04;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CLASS_INTERNET: u16 = 1;
// Types of records (RFC 1035, 3.2.2; RFC 3596, 2.1).
const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const ANY: u16 = 255;
/// Points to the name in the question, the first thing behind the header.
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, 0x0c];

/// Why a question has no answer (RFC 1035, 4.1.1, RCODE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The message makes no sense.
    Format = 1,
    /// No server could be asked.
    Server = 2,
    /// Another kind of request than a question.
    NotImplemented = 4,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Addresses: of IPv4 (A), of IPv6 (AAAA), or all there are (ANY).
    Address { v4: bool, v6: bool },
    /// The name of an address (PTR).
    Pointer,
    /// Something else of a name.
    Other,
}

/// A message with one question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question<'a> {
    /// The header and the question, without what follows it.
    bytes: &'a [u8],
    /// What it is about in our own terms; none where no name of ours can be meant.
    pub(crate) name: Option<Name>,
    pub(crate) kind: Kind,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Records {
    /// Addresses; none means that the name exists and has nothing of the kind.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Pointer(Name),
}

/// Why a message is not a question to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing is sent back: no header, or itself an answer.
    Silent,
    /// Only this is sent back.
    Answer(Vec<u8>),
}

impl<'a> Question<'a> {
    /// Reads a client's message.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Refusal> {
        let header = message.first_chunk::<HEADER>().ok_or(Refusal::Silent)?;
        if header[2] & RESPONSE != 0 {
            return Err(Refusal::Silent);
        }
        let refuse = |failure| Refusal::Answer(refusal(header, failure));
        if header[2] & 0x78 != 0 {
            return Err(refuse(Failure::NotImplemented));
        }
        if header[4..6] != [0, 1] {
            return Err(refuse(Failure::Format));
        }
        let (name, end) = read_name(message, HEADER).ok_or_else(|| refuse(Failure::Format))?;
        let [a, b, c, d] = message
            .get(end..end + 4)
            .and_then(|rest| rest.try_into().ok())
            .ok_or_else(|| refuse(Failure::Format))?;
        let internet = u16::from_be_bytes([c, d]) == CLASS_INTERNET;
        let kind = match u16::from_be_bytes([a, b]) {
            A => Kind::Address { v4: true, v6: false },
            AAAA => Kind::Address { v4: false, v6: true },
            ANY => Kind::Address { v4: true, v6: true },
            PTR => Kind::Pointer,
            _ => Kind::Other,
        };
        let name = name.filter(|_| internet).and_then(|name| Name::parse(&name).ok());
        Ok(Self { bytes: &message[..end + 4], name, kind })
    }

    /// The address whose name is asked for (RFC 1035, 3.5; RFC 3596, 2.5).
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let name = self.name.as_ref().filter(|_| self.kind == Kind::Pointer)?.as_str();
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            let [a, b, c, d] = reversed.parse::<Ipv4Addr>().ok()?.octets();
            return Some(Ipv4Addr::new(d, c, b, a).into());
        }
        let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
        if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
            return None;
        }
        let text: String = digits.into_iter().rev().collect();
        u128::from_str_radix(&text, 16).ok().map(|bits| Ipv6Addr::from(bits).into())
    }

    /// The answer with as many records as fit into `limit` bytes.
    pub(crate) fn answer(&self, records: &Records, limit: usize) -> Vec<u8> {
        let mut message = self.bytes.to_vec();
        message[2] = RESPONSE | AUTHORITATIVE | self.bytes[2] & RECURSION_DESIRED;
        message[3] = RECURSION_AVAILABLE;
        message[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        let mut count = 0u16;
        let encoded: Vec<(u16, Vec<u8>)> = match records {
            Records::Addresses(all) => all.iter().map(encode_address).collect(),
            Records::Pointer(name) => vec![(PTR, encode_name(name))],
        };
        for (kind, data) in encoded {
            if message.len() + HEADER + data.len() > limit {
                break;
            }
            message.extend_from_slice(&POINTER_TO_QUESTION);
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
            message.extend_from_slice(&TIME_TO_LIVE.to_be_bytes());
            let length = u16::try_from(data.len()).expect("a name or an address is below 256 bytes");
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(&data);
            count += 1;
        }
        message[6..8].copy_from_slice(&count.to_be_bytes());
        message
    }

    /// An answer that says why there is none.
    pub(crate) fn failure(&self, failure: Failure) -> Vec<u8> {
        let mut message = self.answer(&Records::Addresses(Vec::new()), 0);
        message[2] &= !AUTHORITATIVE;
        message[3] |= failure as u8;
        message
    }
}

/// The answer to a message of which only the header can be understood.
fn refusal(header: &[u8; HEADER], failure: Failure) -> Vec<u8> {
    let opcode_and_recursion = header[2] & 0x79;
    let mut message =
        vec![header[0], header[1], RESPONSE | opcode_and_recursion, RECURSION_AVAILABLE | failure as u8];
    message.resize(HEADER, 0);
    message
}

/// A server's answer to a question that was forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not an answer to this question.
    Foreign,
    /// The server cannot or does not want to answer; another may.
    Failed,
    /// It answers.
    Answered,
}

/// Whether `answer` answers `question`, as sent: number and question must be the same, upper and lower case aside.
pub(crate) fn judge(question: &[u8], answer: &[u8]) -> Verdict {
    let (Some(asked), Some(header)) = (question.first_chunk::<HEADER>(), answer.first_chunk::<HEADER>())
    else {
        return Verdict::Foreign;
    };
    let failed = matches!(header[3] & 0x0f, 2 | 4 | 5);
    if header[..2] != asked[..2] || header[2] & RESPONSE == 0 {
        return Verdict::Foreign;
    }
    // Servers that understand nothing send the header alone.
    if header[4..6] == [0, 0] && header[3] & 0x0f != 0 {
        return Verdict::Failed;
    }
    let same = match (read_name(question, HEADER), read_name(answer, HEADER)) {
        (Some((_, end)), Some((_, other))) if end == other => {
            let section = |message: &[u8]| message.get(HEADER..end + 4).map(<[u8]>::to_ascii_lowercase);
            section(question).is_some() && section(question) == section(answer)
        }
        _ => false,
    };
    match (same, failed) {
        (false, _) => Verdict::Foreign,
        (true, true) => Verdict::Failed,
        (true, false) => Verdict::Answered,
    }
}

/// Reads the name at `at`. Returns it, unless it has bytes that no name of ours has, and where it ends. Compressed names
/// are refused: a question has nothing before it to point to.
fn read_name(message: &[u8], mut at: usize) -> Option<(Option<String>, usize)> {
    let mut name = String::new();
    let mut ours = true;
    let start = at;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((Some(name).filter(|name| ours && !name.is_empty()), at));
        }
        // The top two bits mark a pointer; a label has at most 63 bytes, a name 255 with lengths.
        if length > LABEL || at + length - start > NAME + 1 {
            return None;
        }
        let label = message.get(at..at + length)?;
        at += length;
        ours &= label.iter().all(|b| b.is_ascii_graphic() && *b != b'.');
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|&b| char::from(b)));
    }
}

fn encode_address(address: &IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (A, address.octets().to_vec()),
        IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
    }
}

fn encode_name(name: &Name) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.as_str().len() + 2);
    for label in name.as_str().split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label is at most 63 bytes"));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).expect("short"));
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message
    }

    #[test]
    fn questions_are_read_in_lower_case_and_addresses_backwards() {
        let message = question("Web.Example", 1);
        let parsed = Question::parse(&message).unwrap();
        let kind = Kind::Address { v4: true, v6: false };
        assert_eq!((parsed.name.as_ref().unwrap().as_str(), parsed.kind), ("web.example", kind));
        let v6 = question("web", 28);
        assert_eq!(Question::parse(&v6).unwrap().kind, Kind::Address { v4: false, v6: true });
        let message = question("2.0.17.172.in-addr.arpa", 12);
        assert_eq!(Question::parse(&message).unwrap().address(), Some(Ipv4Addr::new(172, 17, 0, 2).into()));
        let nibbles = format!("2{}.0.d.f.ip6.arpa", ".0".repeat(28));
        let message = question(&nibbles, 12);
        assert_eq!(Question::parse(&message).unwrap().address(), Some("fd00::2".parse().unwrap()));
        let nibbles = nibbles.replace("ip6.arpa", "");
        for other in [
            "2.0.17.in-addr.arpa",
            "x.0.17.172.in-addr.arpa",
            "1.2.0.17.172.in-addr.arpa",
            "in-addr.arpa",
            "ip6.arpa",
            &format!("{nibbles}in-addr.arpa"),
            &format!("0.{nibbles}ip6.arpa"),
            &format!("{}ip6.arpa", &nibbles[2..]),
            &format!("x{}ip6.arpa", &nibbles[1..]),
            &format!("+{}ip6.arpa", &nibbles[1..]),
        ] {
            let message = question(other, 12);
            assert_eq!(Question::parse(&message).unwrap().address(), None, "{other}");
        }
        // The root, and a name with a dot inside a label, are nothing of ours.
        assert_eq!(Question::parse(&question("", 2)).unwrap().name, None);
        let mut odd = question("a-b", 1);
        odd[14] = b'.';
        assert_eq!(Question::parse(&odd).unwrap().name, None);
    }

    #[test]
    fn what_is_no_single_question_is_refused_or_ignored() {
        let with = |at: usize, value: u8| {
            let mut message = question("web", 1);
            message[at] = value;
            message
        };
        assert_eq!(Question::parse(&question("web", 1)[..11]), Err(Refusal::Silent));
        assert_eq!(Question::parse(&with(2, 0x81)), Err(Refusal::Silent));
        for (message, code) in
            [(with(2, 0x28), 4), (with(5, 2), 1), (with(5, 0), 1), (with(12, 0xc0), 1), (with(12, 64), 1)]
        {
            let Err(Refusal::Answer(answer)) = Question::parse(&message) else { panic!("{message:?}") };
            assert_eq!(
                (answer.len(), answer[0], answer[2] & 0x80, answer[3] & 15),
                (HEADER, 0xab, 0x80, code)
            );
        }
    }

    #[test]
    fn an_answer_repeats_the_question_and_holds_what_fits() {
        let message = question("web", 1);
        let parsed = Question::parse(&message).unwrap();
        let addresses: Vec<_> = (0..100).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
        let answer = parsed.answer(&Records::Addresses(addresses), 512);
        assert!(answer.len() <= 512 && answer.len() > 512 - 16);
        assert_eq!(answer[..4], [0xab, 0xcd, 0x85, 0x80]);
        assert_eq!(answer[HEADER..message.len()], message[HEADER..]);
        let count = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
        assert_eq!(message.len() + 16 * count, answer.len());
        assert_eq!(
            answer[message.len()..message.len() + 16],
            [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 0]
        );
        assert_eq!(judge(&message, &answer), Verdict::Answered);
        let answer = parsed.answer(&Records::Addresses(vec!["fd00::2".parse().unwrap()]), 512);
        assert_eq!(answer[message.len()..message.len() + 12], [0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 5, 0, 16]);
        assert_eq!((answer.len(), answer.last()), (message.len() + 28, Some(&2)));
    }

    #[test]
    fn only_the_answer_to_the_same_question_is_taken() {
        let asked = question("web.example", 1);
        let parsed = Question::parse(&asked).unwrap();
        let good = parsed.answer(&Records::Addresses(vec![]), 512);
        let change = |at: usize, value: u8| {
            let mut answer = good.clone();
            answer[at] = value;
            answer
        };
        assert_eq!(judge(&asked, &change(13, b'W')), Verdict::Answered);
        for (at, value) in [(0, 0), (1, 0), (2, 0), (13, b'x'), (asked.len() - 3, 28), (asked.len() - 1, 3)] {
            assert_eq!(judge(&asked, &change(at, value)), Verdict::Foreign, "{at}");
        }
        assert_eq!(judge(&asked, &good[..20]), Verdict::Foreign);
        assert_eq!(judge(&asked, &parsed.failure(Failure::Server)), Verdict::Failed);
        assert_eq!(judge(&asked, &refusal(good.first_chunk().unwrap(), Failure::Format)), Verdict::Failed);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(message in proptest::collection::vec(any::<u8>(), 0..300), asked in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(parsed) = Question::parse(&message) {
                prop_assert!(parsed.bytes.len() <= message.len());
                let answer = parsed.answer(&Records::Pointer(Name::parse("web").unwrap()), 512);
                prop_assert_eq!(&answer[HEADER..parsed.bytes.len()], &message[HEADER..parsed.bytes.len()]);
            }
            judge(&asked, &message);
        }

        #[test]
        fn every_name_of_ours_reads_back(labels in proptest::collection::vec("[a-z0-9_-]{1,20}", 1..8)) {
            let name = labels.join(".");
            let message = question(&name, 1);
            let parsed = Question::parse(&message).unwrap();
            let parsed_name = parsed.name.unwrap();
            prop_assert_eq!(parsed_name.as_str(), name);
            prop_assert_eq!(&encode_name(&parsed_name)[..], &message[HEADER..message.len() - 4]);
        }

        #[test]
        fn a_question_with_bytes_changed_or_cut_never_panics(at in 0usize..40, value in any::<u8>(), cut in 0usize..40) {
            let mut message = question("web.example.com", 1);
            let at = at % message.len();
            message[at] = value;
            message.truncate(cut);
            if let Err(Refusal::Answer(answer)) = Question::parse(&message) {
                prop_assert_eq!(answer.len(), HEADER);
            }
        }
    }
}
