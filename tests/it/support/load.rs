//! Requests without pause, up to the moment when a daemon takes no more connections.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::net::TcpStream;

use super::{
    Client, Speaks,
    client::{never_processed, was_reset},
    get, within,
};

/// Asks until the daemon takes no more connections. Every request that went out must be answered. The kernel resets what
/// it had queued for a socket when that closes: such a connection has answered nothing, and nobody has seen its request.
pub async fn until_refused(address: SocketAddr, speaks: Speaks, path: &'static str, done: Arc<AtomicU64>) {
    while let Ok(stream) = within("connect", TcpStream::connect(address)).await {
        let Ok(mut client) = within("handshake", Client::try_over(stream, speaks)).await else { continue };
        let mut answered = false;
        while !client.is_closed() {
            match within(&format!("{speaks:?}: an answer"), client.try_ask(get("svc", path))).await {
                Ok(answer) => assert_eq!((answer.status, answer.reason()), (200, ""), "{answer:?}"),
                Err(error) if never_processed(&error) => break,
                Err(error) if !answered && was_reset(&error) => break,
                Err(error) => panic!("{speaks:?}: {error:?}"),
            }
            answered = true;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}
