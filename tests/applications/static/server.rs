//! A web server without libraries: it answers every request alike.
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    for client in TcpListener::bind("0.0.0.0:8080")?.incoming() {
        let mut client = client?;
        let mut line = String::new();
        BufReader::new(&client).read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default();
        let body = format!("{{\"hello\":\"{}\"}}", path.rsplit('/').next().unwrap_or_default());
        write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    }
    Ok(())
}
