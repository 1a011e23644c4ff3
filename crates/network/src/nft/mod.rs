//! nftables over netlink: transactions, listings and the few attributes they need (`linux/netfilter/nf_tables.h`).
//!
//! Everything is in the families `ip` and `ip6`, in tables of the same name. What the tables contain is decided in [`crate::ruleset`] and its neighbours.

mod rule;
mod set;

use rule::comment_of;
pub(crate) use rule::{Ct, Header, Meta, Rule, Verdict};
pub(crate) use set::{
    Element, Elements, Set, SetKind, address_port_key, interface_key, list_elements, network_elements,
    parse_elements, port_key, target_address, target_value,
};

use coracle_sys::netlink::route::Family;
use coracle_sys::netlink::{Attributes, Message, Reply, flags, parse};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const NEWGEN: u16 = 15;
const GETGEN: u16 = 16;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_USERDATA: u16 = 7;
const GEN_ID: u16 = 1;
const POLICY_ACCEPT: u32 = 1;

/// Where a packet meets a chain.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A chain and, when packets enter it by themselves, how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// `nat` or `filter`, the hook, and the priority among the chains there.
    pub(crate) base: Option<(&'static str, Hook, i32)>,
}

/// A rule as listed: enough to recognise and to delete it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedRule {
    pub(crate) chain: String,
    pub(crate) handle: u64,
    pub(crate) comment: Option<String>,
}

/// Changes to the tables of one name that happen all at once or not at all.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    table: &'a str,
    /// Of which the table is that the next changes concern.
    family: Family,
    messages: Vec<Message>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(table: &'a str) -> Self {
        Self { table, family: Family::V4, messages: vec![batch("nft batch begin", BATCH_BEGIN, table)] }
    }

    /// What follows concerns the table of this family; at first that is IPv4.
    pub(crate) fn turn_to(&mut self, family: Family) {
        self.family = family;
    }

    pub(crate) fn add_table(&mut self) {
        let table = self.push("NFT_MSG_NEWTABLE", NEWTABLE, flags::CREATE, "");
        // Flags 0 wakes up a table that somebody made dormant.
        table.put_be32(TABLE_FLAGS, 0);
    }

    pub(crate) fn delete_table(&mut self) {
        self.push("NFT_MSG_DELTABLE", DELTABLE, 0, "");
    }

    pub(crate) fn add_chain(&mut self, chain: Chain) {
        let body = self.push("NFT_MSG_NEWCHAIN", NEWCHAIN, flags::CREATE, chain.name);
        body.put_str(CHAIN_NAME, chain.name);
        if let Some((kind, hook, priority)) = chain.base {
            body.nest(CHAIN_HOOK, |nest| {
                nest.put_be32(HOOK_NUMBER, hook as u32).put_be32(HOOK_PRIORITY, priority.cast_unsigned());
            });
            body.put_str(CHAIN_TYPE, kind).put_be32(CHAIN_POLICY, POLICY_ACCEPT);
        }
    }

    /// Removes all rules of a chain, which must exist by then.
    pub(crate) fn flush_chain(&mut self, chain: &str) {
        self.push("NFT_MSG_DELRULE", DELRULE, 0, chain).put_str(RULE_CHAIN, chain);
    }

    pub(crate) fn append_rule(&mut self, chain: &str, rule: &Rule) {
        let body = self.push("NFT_MSG_NEWRULE", NEWRULE, flags::CREATE | flags::APPEND, chain);
        rule.write(body.put_str(RULE_CHAIN, chain));
    }

    /// Adds a rule in front of all others of the chain.
    pub(crate) fn prepend_rule(&mut self, chain: &str, rule: &Rule) {
        let body = self.push("NFT_MSG_NEWRULE", NEWRULE, flags::CREATE, chain);
        rule.write(body.put_str(RULE_CHAIN, chain));
    }

    pub(crate) fn delete_rule(&mut self, chain: &str, handle: u64) {
        let body = self.push("NFT_MSG_DELRULE", DELRULE, 0, chain);
        body.put_str(RULE_CHAIN, chain).put(RULE_HANDLE, &handle.to_be_bytes());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    /// The messages of one send. Only the last change is acknowledged; failures are reported for each.
    pub(crate) fn finish(mut self) -> Vec<Message> {
        if let Some(last) = self.messages.last_mut().filter(|last| last.kind != BATCH_BEGIN) {
            last.flags |= flags::ACK;
        }
        self.messages.push(batch("nft batch end", BATCH_END, self.table));
        self.messages
    }

    /// Begins a message about this table; its first attribute, the table's name, has type 1 in all of them.
    fn push(&mut self, call: &'static str, kind: u16, flags: u16, subject: &str) -> &mut Attributes {
        self.messages.push(message(call, kind, flags, (self.family, self.table), subject));
        &mut self.messages.last_mut().expect("just pushed").body
    }
}

fn batch(call: &'static str, kind: u16, table: &str) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let body = Attributes::with_header(&[0, 0, high, low]);
    Message { call, subject: table.to_owned(), kind, flags: 0, body }
}

fn message(
    call: &'static str,
    kind: u16,
    flags: u16,
    (family, table): (Family, &str),
    subject: &str,
) -> Message {
    let mut body = Attributes::with_header(&[family.number(), 0, 0, 0]);
    if !table.is_empty() {
        body.put_str(TABLE_NAME, table);
    }
    let subject = format!("{table} {subject}").trim().to_owned();
    Message { call, subject, kind: SUBSYSTEM << 8 | kind, flags, body }
}

fn is(reply: &Reply, kind: u16) -> bool {
    reply.kind == SUBSYSTEM << 8 | kind
}

/// The attributes behind the fixed header of netfilter messages.
fn attributes(reply: &Reply) -> &[u8] {
    reply.body.get(4..).unwrap_or_default()
}

/// Asks which generation of rules is current: every change of any table counts it up.
pub(crate) fn get_generation() -> Message {
    message("NFT_MSG_GETGEN", GETGEN, flags::ACK, (Family::V4, ""), "generation")
}

/// Reads the answer to [`get_generation`].
pub(crate) fn parse_generation(replies: &[Reply]) -> Option<u32> {
    let reply = replies.iter().find(|reply| is(reply, NEWGEN))?;
    parse(attributes(reply)).find(|a| a.kind == GEN_ID)?.be32()
}

/// Asks whether a chain exists: `ENOENT` if not.
pub(crate) fn get_chain(family: Family, table: &str, chain: &str) -> Message {
    let mut get = message("NFT_MSG_GETCHAIN", GETCHAIN, flags::ACK, (family, table), chain);
    get.body.put_str(CHAIN_NAME, chain);
    get
}

/// Lists the rules of a table, or of one of its chains; empty if there is none.
pub(crate) fn list_rules(family: Family, table: &str, chain: Option<&str>) -> Message {
    let mut list = message("NFT_MSG_GETRULE", GETRULE, 0, (family, table), chain.unwrap_or_default());
    if let Some(chain) = chain {
        list.body.put_str(RULE_CHAIN, chain);
    }
    list
}

impl ListedRule {
    /// Reads one reply to [`list_rules`].
    pub(crate) fn parse(reply: &Reply) -> Option<Self> {
        if !is(reply, NEWRULE) {
            return None;
        }
        let mut rule = Self { chain: String::new(), handle: 0, comment: None };
        for attribute in parse(attributes(reply)) {
            match attribute.kind {
                RULE_CHAIN => rule.chain = attribute.str()?.to_owned(),
                RULE_HANDLE => rule.handle = u64::from_be_bytes(attribute.value.try_into().ok()?),
                RULE_USERDATA => rule.comment = comment_of(attribute.value),
                _ => {}
            }
        }
        Some(rule)
    }
}
