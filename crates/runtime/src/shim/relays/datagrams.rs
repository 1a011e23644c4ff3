//! Datagrams: a flow for each client, with a socket of its own to the container, until it is silent for long.

use super::{Relays, connect};
use crate::limits::{FLOW_PATIENCE, RELAY_TURNS};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// What one client and the container send each other.
pub(super) struct Flow {
    port: u64,
    client: SocketAddr,
    server: OwnedFd,
    /// When it is over unless something is sent.
    pub(super) deadline: Instant,
}

impl Relays {
    /// Passes on what clients have sent to a port. What cannot be sent is lost, as datagrams may be.
    pub(super) fn receive(&mut self, port: u64) {
        for _ in 0..RELAY_TURNS {
            let Some(receiving) = self.ports.get(&port) else { return };
            let received = rustix::net::recvfrom(&receiving.socket, &mut self.buffer[..], RecvFlags::empty());
            let (length, client) = match received {
                Ok((length, _, Some(client))) => (length, client),
                Ok((_, _, None)) | Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                // An answer that could not be delivered is told as an error of the next call.
                Err(_) => continue,
            };
            let Ok(client) = SocketAddr::try_from(client) else { continue };
            let Some(number) = self.flow(port, client) else { continue };
            let Some(flow) = self.flows.get_mut(&number) else { continue };
            flow.deadline = Instant::now() + FLOW_PATIENCE;
            let _ = rustix::net::send(&flow.server, &self.buffer[..length], SendFlags::NOSIGNAL);
        }
    }

    /// Passes on what the container has answered.
    pub(super) fn answer(&mut self, number: u64) {
        for _ in 0..RELAY_TURNS {
            let Some(flow) = self.flows.get_mut(&number) else { return };
            let Some(port) = self.ports.get(&flow.port) else { return };
            let length = match rustix::net::recv(&flow.server, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return,
                // That nobody listens is told so; somebody may later.
                Err(_) => continue,
            };
            flow.deadline = Instant::now() + FLOW_PATIENCE;
            let answer = &self.buffer[..length];
            let _ = rustix::net::sendto(&port.socket, answer, SendFlags::NOSIGNAL, &flow.client);
        }
    }

    /// The flow of a client, which may be new. Where there are too many, the one that was silent for longest is over.
    fn flow(&mut self, port: u64, client: SocketAddr) -> Option<u64> {
        if let Some(number) = self.ports.get(&port)?.clients.get(&client) {
            return Some(*number);
        }
        if self.flows.len() >= self.most.flows {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.deadline).map(|(number, _)| *number);
            self.end_flow(oldest?);
        }
        let server = connect(SocketType::DGRAM, self.ports.get(&port)?.target).ok()?;
        let number = self.number();
        self.watch(&server, number, EventFlags::IN).ok()?;
        let deadline = Instant::now() + FLOW_PATIENCE;
        self.flows.insert(number, Flow { port, client, server, deadline });
        self.ports.get_mut(&port)?.clients.insert(client, number);
        Some(number)
    }

    pub(super) fn end_flow(&mut self, number: u64) {
        let Some(flow) = self.flows.remove(&number) else { return };
        if let Some(port) = self.ports.get_mut(&flow.port) {
            port.clients.remove(&flow.client);
        }
    }

    /// Ends all flows of a port.
    pub(super) fn end_flows(&mut self, port: u64) {
        let Some(port) = self.ports.get_mut(&port) else { return };
        for number in std::mem::take(&mut port.clients).into_values() {
            self.flows.remove(&number);
        }
    }
}
