//! An issuer of tokens: keys, tokens signed with them, and an https server that publishes the keys.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::pki::Authority;

/// Who issues, as the tests configure it.
pub const ISSUER: &str = "https://id.example";

/// A P-256 key.
pub struct Key {
    pub id: String,
    key: EncodingKey,
}

/// Seconds of Unix time, so much from now.
pub fn from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

impl Key {
    pub fn new(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        Self { id: id.to_owned(), key: EncodingKey::from_ec_der(&pair.serialize_der()) }
    }

    /// Its public part.
    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub fn header(&self) -> Header {
        Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) }
    }

    /// `Bearer` and a token that is valid for five minutes, with these claims besides or instead.
    pub fn bearer(&self, claims: &Value) -> String {
        format!("Bearer {}", self.token(&self.header(), claims))
    }

    pub fn token(&self, header: &Header, claims: &Value) -> String {
        let mut all = json!({ "iss": ISSUER, "sub": "ann", "exp": from_now(300) });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        jsonwebtoken::encode(header, &all, &self.key).unwrap()
    }
}

/// The set of these keys.
pub fn set(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// An https server that says the same to everybody.
pub struct KeyServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    answer: Mutex<String>,
    asked: AtomicU64,
}

/// A whole answer with this content.
pub fn ok(content: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{content}", content.len())
}

impl KeyServer {
    /// With a certificate of `authority` for `name`.
    pub async fn start(authority: &Authority, name: &str, answer: String) -> Self {
        let acceptor = TlsAcceptor::from(authority.server(&authority.issue(&[name]), false, &["http/1.1"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { answer: Mutex::new(answer), asked: AtomicU64::new(0) });
        let of_task = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), of_task.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.ok()?);
                    }
                    shared.asked.fetch_add(1, Ordering::SeqCst);
                    let answer = shared.answer.lock().unwrap().clone();
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    stream.shutdown().await.ok()
                });
            }
        });
        Self { address, shared, accepting }
    }

    pub fn says(&self, answer: String) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
