//! Who has which address of a network: handed out in turn, so that one just freed comes last.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::subnet::Subnet;

/// The addresses of one network that are in use. Each is known by how many addresses it is above the network's lowest.
#[derive(Debug)]
pub(crate) struct Pool {
    subnet: Subnet,
    used: BTreeSet<u128>,
    /// Where the search for a free address begins.
    next: u128,
    /// What is given out to who asks for no certain address: the first and the last.
    range: (u128, u128),
}

impl Pool {
    /// All free but the lowest, the gateway's, in IPv4 the broadcast, and the `reserved` addresses; of which only `range`
    /// (the first and the last address) is given out to who asks for no certain address. All are in the network.
    pub(crate) fn new(subnet: Subnet, range: Option<(IpAddr, IpAddr)>, reserved: &[IpAddr]) -> Self {
        let (first, last) = range.unwrap_or((subnet.network(), subnet.last()));
        let range = (subnet.offset(first), subnet.offset(last));
        let no_hosts =
            [subnet.network(), subnet.last()].into_iter().filter(|address| !subnet.is_host(*address));
        let taken = no_hosts.chain(reserved.iter().copied()).chain([subnet.address()]);
        Self { subnet, used: taken.map(|address| subnet.offset(address)).collect(), next: range.0, range }
    }

    /// The network.
    pub(crate) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Takes the next free address.
    pub(crate) fn take(&mut self) -> Result<IpAddr> {
        let (first, last) = self.range;
        let found = self.first_free(self.next, last).or_else(|| self.first_free(first, self.next));
        let found = found.ok_or(Error::NoAddress { subnet: self.subnet })?;
        self.used.insert(found);
        self.next = if found == last { first } else { found + 1 };
        Ok(self.subnet.nth(found))
    }

    fn first_free(&self, from: u128, to: u128) -> Option<u128> {
        let mut candidate = from;
        for &used in self.used.range(from..=to) {
            if used != candidate {
                break;
            }
            candidate += 1;
        }
        (candidate <= to).then_some(candidate)
    }

    /// Takes a certain address.
    pub(crate) fn take_exactly(&mut self, address: IpAddr) -> Result<()> {
        if !self.subnet.is_host(address) || address == self.subnet.address() {
            return Err(Error::AddressOutside { address, subnet: self.subnet });
        }
        if !self.used.insert(self.subnet.offset(address)) {
            return Err(Error::AddressTaken { address });
        }
        Ok(())
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: IpAddr) {
        if self.subnet.is_host(address) && address != self.subnet.address() {
            self.used.remove(&self.subnet.offset(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(text: &str) -> Pool {
        Pool::new(text.parse().unwrap(), None, &[])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn take(pool: &mut Pool, count: usize) -> Vec<String> {
        (0..count).map(|_| pool.take().unwrap().to_string()).collect()
    }

    #[test]
    fn addresses_are_handed_out_in_turn_and_a_freed_one_comes_last() {
        for (subnet, prefix, last) in [("10.0.0.1/29", "10.0.0.", 6), ("fd00::1/125", "fd00::", 7)] {
            let mut pool = pool(subnet);
            let first = pool.take().unwrap();
            assert_eq!(first, ip(&format!("{prefix}2")));
            pool.release(first);
            let expected: Vec<_> = (3..=last).chain([2]).map(|n| format!("{prefix}{n}")).collect();
            assert_eq!(take(&mut pool, expected.len()), expected);
            assert!(matches!(pool.take(), Err(Error::NoAddress { .. })));
        }
    }

    #[test]
    fn a_range_is_given_out_alone_and_from_its_beginning_again() {
        let range = (ip("10.0.0.96"), ip("10.0.0.99"));
        let reserved = ip("10.0.0.98");
        let mut pool = Pool::new("10.0.0.1/24".parse().unwrap(), Some(range), &[reserved]);
        assert_eq!(take(&mut pool, 3), ["10.0.0.96", "10.0.0.97", "10.0.0.99"]);
        assert!(matches!(pool.take_exactly(reserved), Err(Error::AddressTaken { .. })));
        assert!(matches!(pool.take(), Err(Error::NoAddress { .. })));
        pool.release(range.0);
        assert_eq!(pool.take().unwrap(), range.0);
        pool.take_exactly(ip("10.0.0.2")).unwrap();
    }

    #[test]
    fn a_requested_address_must_be_free_and_a_hosts() {
        let mut pool = pool("10.0.0.1/24");
        pool.take_exactly(ip("10.0.0.2")).unwrap();
        assert!(matches!(pool.take_exactly(ip("10.0.0.2")), Err(Error::AddressTaken { .. })));
        for outside in ["10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.2", "fd00::2"] {
            let refused = pool.take_exactly(ip(outside));
            assert!(matches!(refused, Err(Error::AddressOutside { .. })), "{outside}");
        }
        assert_eq!(pool.take().unwrap(), ip("10.0.0.3"));
    }

    #[test]
    fn a_large_network_costs_what_is_in_use() {
        let mut pool = pool("fd00::1/8");
        assert_eq!(take(&mut pool, 2), ["fd00::2", "fd00::3"]);
        pool.take_exactly(ip("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")).unwrap();
        assert_eq!(pool.used.len(), 5);
    }

    proptest! {
        #[test]
        fn no_address_is_ever_given_twice(steps in proptest::collection::vec(any::<Option<u8>>(), 1..200)) {
            let mut pool = pool("10.0.0.1/26");
            let mut held = BTreeSet::new();
            for step in steps {
                match step {
                    None => match pool.take() {
                        Ok(address) => prop_assert!(held.insert(address)),
                        Err(_) => prop_assert_eq!(held.len(), 61),
                    },
                    Some(nth) => {
                        if let Some(&address) = held.iter().nth(usize::from(nth) % held.len().max(1)) {
                            held.remove(&address);
                            pool.release(address);
                        }
                    }
                }
            }
        }
    }
}
