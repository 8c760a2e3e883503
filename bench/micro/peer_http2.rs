//! The peer's side of HTTP/2: one stream after the other on one connection.

use std::net::TcpListener as StdListener;

use bytes::Bytes;
use h2::RecvStream;
use http::{Request, Response, header::CONTENT_TYPE};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    task::spawn_local,
};

use super::peer::ANSWER;

/// The endpoints, and the caller, who makes `requests` requests.
pub fn run(listeners: Vec<StdListener>, mut orders: impl Iterator<Item = String>, requests: u64) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.expect("a runtime can be made").block_on(async {
        for listener in listeners {
            listener.set_nonblocking(true).expect("it is a socket");
            spawn_local(listen(TcpListener::from_std(listener).expect("the runtime takes it")));
        }
        let stream = TcpStream::connect(orders.next().expect("an address")).await.expect("the proxy listens");
        orders.next().expect("the word to go");
        ask(stream, requests).await;
    });
}

async fn listen(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        spawn_local(answer(stream));
    }
}

async fn ask(stream: TcpStream, requests: u64) {
    stream.set_nodelay(true).expect("it is a TCP socket");
    let (mut sender, connection) = h2::client::handshake(stream).await.expect("the proxy speaks HTTP/2");
    let connection = spawn_local(connection);
    for _ in 0..requests {
        let request = Request::get("http://reviews/v2/items/17")
            .header("user-agent", "micro/1")
            .header("accept", "application/json")
            .header("accept-encoding", "gzip");
        sender = sender.ready().await.expect("the connection is open");
        let request = request.body(()).expect("the request is valid");
        let (response, _) = sender.send_request(request, true).expect("the connection is open");
        let response = response.await.expect("the proxy answers");
        assert_eq!(response.status(), 200);
        assert_eq!(read(response.into_body()).await, ANSWER);
    }
    drop(sender);
    // The other end may have closed first.
    let _ = connection.await;
}

async fn read(mut body: RecvStream) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("the body comes whole");
        body.flow_control().release_capacity(data.len()).expect("it was received");
        content.extend_from_slice(&data);
    }
    content
}

async fn answer(stream: TcpStream) {
    stream.set_nodelay(true).expect("it is a TCP socket");
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let response = Response::builder()
            .header("server", "micro")
            .header("date", "Fri, 20 Nov 2026 12:00:00 GMT")
            .header(CONTENT_TYPE, "application/json")
            .header("content-length", ANSWER.len())
            .body(())
            .expect("the response is valid");
        if let Ok(mut body) = respond.send_response(response, false) {
            // The caller of a request that is gone needs no answer.
            let _ = body.send_data(Bytes::from_static(ANSWER), true);
        }
    }
}
