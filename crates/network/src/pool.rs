//! Who has which address of a network: a bit for each, handed out in turn so that one just freed comes last.

use std::net::Ipv4Addr;

use crate::error::{Error, Result};
use crate::subnet::Ipv4Net;

/// The addresses of one network that are in use.
#[derive(Debug)]
pub(crate) struct Pool {
    subnet: Ipv4Net,
    used: Vec<u64>,
    /// Where the search for a free address begins.
    next: u32,
    /// What is given out to who asks for no certain address: the first and the last.
    range: (u32, u32),
}

impl Pool {
    /// All free but the network's, the gateway's, the broadcast and the `reserved` addresses; of which only `range` (the
    /// first and the last address) is given out to who asks for no certain address. All are in the network.
    pub(crate) fn new(subnet: Ipv4Net, range: Option<(Ipv4Addr, Ipv4Addr)>, reserved: &[Ipv4Addr]) -> Self {
        let words = subnet.size().div_ceil(64) as usize;
        let offset = |address| u32::from(address) - u32::from(subnet.network());
        let range = range.map_or((0, subnet.size() - 1), |(first, last)| (offset(first), offset(last)));
        let mut pool = Self { subnet, used: vec![0; words], next: range.0.max(1), range };
        pool.set(0);
        pool.set(subnet.size() - 1);
        for address in reserved.iter().chain([&subnet.address()]) {
            pool.set(pool.offset(*address));
        }
        pool
    }

    /// Takes the next free address.
    pub(crate) fn take(&mut self) -> Result<Ipv4Addr> {
        let (first, last) = self.range;
        let mut at = self.next;
        for _ in 0..self.used.len() + 1 {
            // One word at a time: the free bits from `at` on.
            let word = (at / 64) as usize;
            let free = !self.used[word] & (u64::MAX << (at % 64));
            let found = at / 64 * 64 + free.trailing_zeros();
            if free != 0 && found <= last {
                self.set(found);
                self.next = if found == last { first } else { found + 1 };
                return Ok(Ipv4Addr::from(u32::from(self.subnet.network()) + found));
            }
            at = (at / 64 + 1) * 64;
            if at > last {
                at = first;
            }
        }
        Err(Error::NoAddress { subnet: self.subnet })
    }

    /// Takes a certain address.
    pub(crate) fn take_exactly(&mut self, address: Ipv4Addr) -> Result<()> {
        if !self.subnet.is_host(address) || address == self.subnet.address() {
            return Err(Error::AddressOutside { address, subnet: self.subnet });
        }
        let offset = self.offset(address);
        if self.used[(offset / 64) as usize] & (1 << (offset % 64)) != 0 {
            return Err(Error::AddressTaken { address });
        }
        self.set(offset);
        Ok(())
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        if self.subnet.is_host(address) && address != self.subnet.address() {
            let offset = self.offset(address);
            self.used[(offset / 64) as usize] &= !(1 << (offset % 64));
        }
    }

    fn set(&mut self, offset: u32) {
        self.used[(offset / 64) as usize] |= 1 << (offset % 64);
    }

    fn offset(&self, address: Ipv4Addr) -> u32 {
        u32::from(address) - u32::from(self.subnet.network())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pool(text: &str) -> Pool {
        Pool::new(text.parse().unwrap(), None, &[])
    }

    #[test]
    fn addresses_are_handed_out_in_turn_and_a_freed_one_comes_last() {
        let mut pool = pool("10.0.0.1/29");
        let first = pool.take().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 0, 0, 2));
        pool.release(first);
        let rest: Vec<u8> = (0..5).map(|_| pool.take().unwrap().octets()[3]).collect();
        assert_eq!(rest, [3, 4, 5, 6, 2]);
        assert!(matches!(pool.take(), Err(Error::NoAddress { .. })));
    }

    #[test]
    fn a_range_is_given_out_alone_and_from_its_beginning_again() {
        let range = (Ipv4Addr::new(10, 0, 0, 96), Ipv4Addr::new(10, 0, 0, 99));
        let reserved = Ipv4Addr::new(10, 0, 0, 98);
        let mut pool = Pool::new("10.0.0.1/24".parse().unwrap(), Some(range), &[reserved]);
        let all: Vec<u8> = (0..3).map(|_| pool.take().unwrap().octets()[3]).collect();
        assert_eq!(all, [96, 97, 99]);
        assert!(matches!(pool.take_exactly(reserved), Err(Error::AddressTaken { .. })));
        assert!(matches!(pool.take(), Err(Error::NoAddress { .. })));
        pool.release(range.0);
        assert_eq!(pool.take().unwrap(), range.0);
        pool.take_exactly(Ipv4Addr::new(10, 0, 0, 2)).unwrap();
    }

    #[test]
    fn a_requested_address_must_be_free_and_a_hosts() {
        let mut pool = pool("10.0.0.1/24");
        pool.take_exactly(Ipv4Addr::new(10, 0, 0, 2)).unwrap();
        assert!(matches!(pool.take_exactly(Ipv4Addr::new(10, 0, 0, 2)), Err(Error::AddressTaken { .. })));
        for outside in [[10, 0, 0, 0], [10, 0, 0, 1], [10, 0, 0, 255], [10, 0, 1, 2]] {
            let refused = pool.take_exactly(Ipv4Addr::from(outside));
            assert!(matches!(refused, Err(Error::AddressOutside { .. })), "{outside:?}");
        }
        assert_eq!(pool.take().unwrap(), Ipv4Addr::new(10, 0, 0, 3));
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
