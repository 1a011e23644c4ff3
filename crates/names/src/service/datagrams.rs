//! Clients that ask by datagram, and their forwarded questions.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::{Attempts, Reply, Service, connect, failure, random_number};
use crate::limits::{DATAGRAM_ANSWER, DATAGRAMS_PER_TURN, FORWARDED, MESSAGE, QUESTION, SERVER_PATIENCE};
use crate::message::{Verdict, judge};

/// A datagram's question, forwarded.
#[derive(Debug)]
pub(super) struct Exchange {
    client: SocketAddrV4,
    /// The number the client gave it.
    number: [u8; 2],
    /// As sent, with a number of ours.
    question: Vec<u8>,
    attempts: Attempts,
    /// Connected to the server that is being asked.
    socket: OwnedFd,
    pub(super) deadline: Instant,
}

impl Service {
    pub(super) fn read_datagrams(&mut self) {
        let mut buffer = [0; QUESTION];
        for _ in 0..DATAGRAMS_PER_TURN {
            let received =
                rustix::net::recvfrom(&self.datagrams, &mut buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC);
            let (length, client) = match received {
                Ok((_, length, client)) => (length, client),
                Err(Errno::INTR) => continue,
                // Nothing more; or a client that is gone was told so, which concerns only that client.
                Err(Errno::AGAIN) => return,
                Err(_) => continue,
            };
            let client = client.and_then(|client| SocketAddrV4::try_from(client).ok());
            // What was cut off cannot be forwarded verbatim.
            if let (Some(message), Some(client)) = (buffer.get(..length), client) {
                self.datagram(message, client);
            }
        }
    }

    fn datagram(&mut self, message: &[u8], client: SocketAddrV4) {
        match self.reply(message, DATAGRAM_ANSWER) {
            Reply::Answer(answer) => self.send(&answer, client),
            Reply::Nothing => {}
            Reply::Forward => {
                if self.forward(message, client).is_none() {
                    self.send_failure(message, client);
                }
            }
        }
    }

    /// Sends a question to the first server that can be sent to; none if there is none, or too much is under way.
    fn forward(&mut self, message: &[u8], client: SocketAddrV4) -> Option<()> {
        if self.exchanges.len() >= FORWARDED {
            return None;
        }
        let number = *message.first_chunk()?;
        let mut attempts = Attempts::new(self.upstream.current());
        let mut question = message.to_vec();
        let token = self.token();
        let socket = self.ask(&mut attempts, &mut question, token)?;
        let deadline = Instant::now() + SERVER_PATIENCE;
        self.exchanges.insert(token, Exchange { client, number, question, attempts, socket, deadline });
        Some(())
    }

    /// Sends the question, under a new number from a new port, to the next server that can be sent to.
    fn ask(&self, attempts: &mut Attempts, question: &mut [u8], token: u64) -> Option<OwnedFd> {
        while let Some(server) = attempts.next() {
            let sent = random_number().and_then(|number| {
                question[..2].copy_from_slice(&number);
                let socket = connect(SocketType::DGRAM, server)?;
                rustix::net::send(&socket, question, SendFlags::NOSIGNAL)?;
                epoll::add(&self.epoll, &socket, EventData::new_u64(token), EventFlags::IN)?;
                Ok(socket)
            });
            // A server that cannot be sent to is one that does not answer.
            if let Ok(socket) = sent {
                return Some(socket);
            }
        }
        None
    }

    pub(super) fn exchange_ready(&mut self, token: u64) {
        let mut answer = vec![0; MESSAGE];
        loop {
            let Some(exchange) = self.exchanges.get(&token) else { return };
            let received = rustix::net::recv(&exchange.socket, &mut answer[..], RecvFlags::DONTWAIT);
            let length = match received {
                Ok((_, length)) => length,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                // The server's host says that nobody listens there.
                Err(_) => return self.exchange_failed(token),
            };
            answer.truncate(length);
            match judge(&exchange.question, &answer) {
                Verdict::Foreign => answer.resize(MESSAGE, 0),
                Verdict::Failed if exchange.attempts.has_untried() => return self.exchange_failed(token),
                Verdict::Failed | Verdict::Answered => return self.exchange_done(token, answer),
            }
        }
    }

    /// The server did not answer: the next, or the client is told that there is none.
    pub(super) fn exchange_failed(&mut self, token: u64) {
        let Some(mut exchange) = self.exchanges.remove(&token) else { return };
        match self.ask(&mut exchange.attempts, &mut exchange.question, token) {
            Some(socket) => {
                exchange.socket = socket;
                exchange.deadline = Instant::now() + SERVER_PATIENCE;
                self.exchanges.insert(token, exchange);
            }
            None => {
                exchange.question[..2].copy_from_slice(&exchange.number);
                self.send_failure(&exchange.question, exchange.client);
            }
        }
    }

    fn exchange_done(&mut self, token: u64, mut answer: Vec<u8>) {
        if let Some(exchange) = self.exchanges.remove(&token) {
            answer[..2].copy_from_slice(&exchange.number);
            self.send(&answer, exchange.client);
        }
    }

    fn send_failure(&self, message: &[u8], client: SocketAddrV4) {
        if let Some(answer) = failure(message) {
            self.send(&answer, client);
        }
    }

    fn send(&self, answer: &[u8], client: SocketAddrV4) {
        // A datagram may be lost, and a client that is gone needs none; clients ask again.
        let _ =
            rustix::net::sendto(&self.datagrams, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &client);
    }
}
