//! The one exception to "tables of our own": two accept rules in iptables' `filter`, of each family that the network has.
//!
//! Docker sets the policy of that table's FORWARD chain to drop, and a drop there is final whatever our chains accept.
//! So packets of our bridge are accepted by name in DOCKER-USER, or in FORWARD where there is no DOCKER-USER. What
//! may reach a container is still decided by our own `forward` chain. The rules carry a comment by which they are
//! found, never added twice, and removed.

use coracle_sys::netlink::Socket;
use coracle_sys::netlink::route::{Family, InterfaceName};

use crate::error::{Attempt, Result};
use crate::firewall::absent;
use crate::nft::{self, ListedRule, Meta, Rule, Transaction, Verdict};

const TABLE: &str = "filter";
/// Where the rules may be, the better place first.
const CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];

/// The two rules of one bridge.
#[derive(Debug)]
pub(crate) struct Exceptions {
    tag: String,
    bridge: InterfaceName,
}

impl Exceptions {
    pub(crate) fn new(tag: &str, bridge: &InterfaceName) -> Self {
        Self { tag: tag.to_owned(), bridge: bridge.clone() }
    }

    fn rules(&self, family: Family) -> [Rule; 2] {
        let rule = |which, direction| {
            Rule::new(family, format!("{} {direction} {}", self.tag, self.bridge))
                .interface_is(which, &self.bridge)
                .counted()
                .verdict(Verdict::Accept)
        };
        [rule(Meta::InputName, "from"), rule(Meta::OutputName, "to")]
    }

    /// Adds what is missing in the best chain of a family that there is, and removes what is in the other. Whether rules were
    /// added.
    pub(crate) fn ensure(&self, socket: &Socket, family: Family) -> Result<bool> {
        let rules = self.rules(family);
        let mut transaction = Transaction::new(TABLE);
        transaction.turn_to(family);
        let mut placed = false;
        let mut added = false;
        for chain in CHAINS {
            let present = present(socket, family, chain, &rules)?;
            if !placed && exists(socket, family, chain)? {
                placed = true;
                let whole = rules.iter().all(|rule| present.iter().any(|p| is(p, rule)));
                if present.len() == rules.len() && whole {
                    continue;
                }
                added = true;
                remove_all(&mut transaction, &present);
                for rule in &rules {
                    transaction.prepend_rule(chain, rule);
                }
            } else {
                remove_all(&mut transaction, &present);
            }
        }
        commit(socket, transaction)?;
        Ok(added)
    }

    /// Removes the rules of a family wherever they are.
    pub(crate) fn remove(&self, socket: &Socket, family: Family) -> Result<()> {
        let rules = self.rules(family);
        let mut transaction = Transaction::new(TABLE);
        transaction.turn_to(family);
        for chain in CHAINS {
            remove_all(&mut transaction, &present(socket, family, chain, &rules)?);
        }
        commit(socket, transaction)
    }
}

fn present(socket: &Socket, family: Family, chain: &str, rules: &[Rule; 2]) -> Result<Vec<ListedRule>> {
    let listed = absent(socket.dump(&nft::list_rules(family, TABLE, Some(chain))))
        .attempt(|| format!("list chain {chain} of table {TABLE}"))?
        .unwrap_or_default();
    let listed = listed.iter().filter_map(ListedRule::parse).filter(|rule| rule.chain == chain);
    Ok(listed.filter(|rule| rules.iter().any(|ours| is(rule, ours))).collect())
}

fn is(listed: &ListedRule, rule: &Rule) -> bool {
    listed.comment.as_deref() == Some(rule.comment.as_str())
}

fn exists(socket: &Socket, family: Family, chain: &str) -> Result<bool> {
    let found = absent(socket.request(&[nft::get_chain(family, TABLE, chain)]))
        .attempt(|| format!("look for chain {chain} of table {TABLE}"))?;
    Ok(found.is_some())
}

fn remove_all(transaction: &mut Transaction<'_>, rules: &[ListedRule]) {
    for rule in rules {
        transaction.delete_rule(&rule.chain, rule.handle);
    }
}

fn commit(socket: &Socket, transaction: Transaction<'_>) -> Result<()> {
    if transaction.is_empty() {
        return Ok(());
    }
    socket
        .request(&transaction.finish())
        .attempt(|| format!("let the bridge's packets pass table {TABLE}"))?;
    Ok(())
}
