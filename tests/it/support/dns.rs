//! A DNS server in process, over UDP and TCP on a loopback port, whose zone a test changes while it runs.
//!
//! It answers from its zone only, and NXDOMAIN for every name that the test never mentioned.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Header, HeaderCounts, Metadata, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SOA, SRV},
    },
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::sync::oneshot;

/// A running DNS server; it stops when dropped.
pub struct DnsServer {
    address: SocketAddr,
    zone: Zone,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl DnsServer {
    /// Starts with an empty zone, on a thread of its own: a test that blocks does not silence it.
    pub fn start() -> Self {
        Self::serving(sockets())
    }

    /// The same, at `address`, or none if that is taken.
    pub fn start_at(address: SocketAddr) -> Option<Self> {
        let udp = UdpSocket::bind(address).ok()?;
        let tcp = TcpListener::bind(address).ok()?;
        Some(Self::serving((udp, tcp)))
    }

    fn serving((udp, tcp): (UdpSocket, TcpListener)) -> Self {
        udp.set_nonblocking(true).expect("a socket can be made non-blocking");
        tcp.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = udp.local_addr().expect("a bound socket has an address");
        let zone = Zone::default();
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let handler = Handler(zone.clone());
        let thread = thread::spawn(move || serve(udp, tcp, handler, &ready, stopped));
        started.recv().expect("the DNS server starts");
        Self { address, zone, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens, UDP and TCP alike.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the A records of `name`; the AAAA records stay. None: the name exists without any.
    pub fn set_a(&self, name: &str, ttl: u32, addresses: &[Ipv4Addr]) {
        let data = addresses.iter().map(|ip| RData::A(A(*ip))).collect();
        self.set(name, RecordType::A, ttl, data);
    }

    /// Replaces the AAAA records of `name`, and answers such queries; the A records stay. None: the name exists without
    /// any.
    pub fn set_aaaa(&self, name: &str, ttl: u32, addresses: &[Ipv6Addr]) {
        let data = addresses.iter().map(|ip| RData::AAAA(AAAA(*ip))).collect();
        self.set(name, RecordType::AAAA, ttl, data);
        self.zone.lock().names.entry(key(name)).or_default().silent_aaaa = false;
    }

    /// Makes `name` an alias of `target`, whose records come in the same answer.
    pub fn set_cname(&self, name: &str, ttl: u32, target: &str) {
        self.set(name, RecordType::CNAME, ttl, vec![RData::CNAME(CNAME(absolute(target)))]);
    }

    /// Replaces the SRV records of `name`, each `(priority, weight, port, target)`.
    pub fn set_srv(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let srv = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, absolute(target)))
        };
        self.set(name, RecordType::SRV, ttl, records.iter().map(srv).collect());
    }

    /// From now on an answer has only `count` of the A records of `name`, and the next one starts one further.
    pub fn rotate(&self, name: &str, count: usize) {
        let mut zone = self.zone.lock();
        zone.names.entry(key(name)).or_default().rotation = Some(Rotation { count, turn: 0 });
    }

    /// `name` does not exist.
    pub fn nxdomain(&self, name: &str) {
        self.behave(name, Behaviour::Code(ResponseCode::NXDomain));
    }

    /// Queries for `name` are answered SERVFAIL.
    pub fn servfail(&self, name: &str) {
        self.behave(name, Behaviour::Code(ResponseCode::ServFail));
    }

    /// Queries for `name` are answered REFUSED.
    pub fn refuse(&self, name: &str) {
        self.behave(name, Behaviour::Code(ResponseCode::Refused));
    }

    /// Queries for `name` are not answered.
    pub fn silent(&self, name: &str) {
        self.behave(name, Behaviour::Silent);
    }

    /// Only AAAA queries for `name` are not answered.
    pub fn silent_aaaa(&self, name: &str) {
        self.zone.lock().names.entry(key(name)).or_default().silent_aaaa = true;
    }

    /// Negative answers carry an SOA with this minimum from now on; none before.
    pub fn set_negative_ttl(&self, seconds: u32) {
        self.zone.lock().negative_ttl = Some(seconds);
    }

    /// Queries for `name` so far: A and AAAA count separately, and so do retransmissions.
    pub fn queries(&self, name: &str) -> usize {
        self.zone.lock().queries.get(&key(name)).map_or(0, |count| count.udp + count.tcp)
    }

    /// Those of [`Self::queries`] that came over TCP.
    pub fn tcp_queries(&self, name: &str) -> usize {
        self.zone.lock().queries.get(&key(name)).map_or(0, |count| count.tcp)
    }

    /// The most queries within any `window` so far.
    pub fn peak(&self, window: Duration) -> usize {
        let zone = self.zone.lock();
        let times = &zone.times;
        let within =
            |(at, first): (usize, &Instant)| times[at..].partition_point(|time| *time - *first < window);
        times.iter().enumerate().map(within).max().unwrap_or(0)
    }

    fn set(&self, name: &str, record_type: RecordType, ttl: u32, data: Vec<RData>) {
        let owner = absolute(name);
        let records = data.into_iter().map(|data| Record::from_rdata(owner.clone(), ttl, data)).collect();
        let mut zone = self.zone.lock();
        let entry = zone.names.entry(key(name)).or_default();
        entry.behaviour = Behaviour::Records;
        entry.records.insert(record_type, records);
    }

    fn behave(&self, name: &str, behaviour: Behaviour) {
        self.zone.lock().names.entry(key(name)).or_default().behaviour = behaviour;
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// UDP and TCP on one port that was free for both.
fn sockets() -> (UdpSocket, TcpListener) {
    (0..100)
        .find_map(|_| {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        })
        .expect("a loopback port that is free over UDP and TCP")
}

fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    handler: Handler,
    ready: &mpsc::Sender<()>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime for the server");
    runtime.block_on(async {
        let mut server = Server::new(handler);
        server.register_socket(tokio::net::UdpSocket::from_std(udp).expect("a UDP socket"));
        let listener = tokio::net::TcpListener::from_std(tcp).expect("a TCP listener");
        server.register_listener(listener, Duration::from_secs(60), 64);
        ready.send(()).expect("the test waits for the start");
        let _ = stopped.await;
    });
    runtime.shutdown_background();
}

/// Names as zone keys: lower case, without trailing dot.
fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_str_relaxed(name).expect("a test gives valid names");
    name.set_fqdn(true);
    name
}

#[derive(Clone, Default)]
struct Zone(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    names: HashMap<String, Entry>,
    queries: HashMap<String, Count>,
    negative_ttl: Option<u32>,
    /// Of all queries, in order.
    times: Vec<Instant>,
}

#[derive(Default)]
struct Entry {
    behaviour: Behaviour,
    silent_aaaa: bool,
    records: HashMap<RecordType, Vec<Record>>,
    rotation: Option<Rotation>,
}

/// Which part of the A records an answer has.
#[derive(Clone, Copy)]
struct Rotation {
    count: usize,
    turn: usize,
}

#[derive(Clone, Copy, Default)]
enum Behaviour {
    #[default]
    Records,
    Code(ResponseCode),
    Silent,
}

#[derive(Default)]
struct Count {
    udp: usize,
    tcp: usize,
}

/// What to send back.
struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    soa: Option<Record>,
}

impl Zone {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().expect("no test panics while it holds the zone")
    }
}

impl Contents {
    fn count(&mut self, name: &str, over_tcp: bool) {
        let count = self.queries.entry(name.to_owned()).or_default();
        self.times.push(Instant::now());
        if over_tcp { count.tcp += 1 } else { count.udp += 1 }
    }

    fn rotate(&mut self, name: &str, record_type: RecordType) {
        let rotation = self.names.get_mut(name).and_then(|entry| entry.rotation.as_mut());
        if let Some(rotation) = rotation.filter(|_| record_type == RecordType::A) {
            rotation.turn += 1;
        }
    }

    /// `None`: silence.
    fn reply(&self, name: &str, record_type: RecordType) -> Option<Reply> {
        let mut answers = Vec::new();
        let code = self.resolve(name, record_type, &mut answers)?;
        let negative = answers.is_empty() && matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        let soa = self.negative_ttl.filter(|_| negative).map(|minimum| {
            let soa = SOA::new(absolute("ns.test"), absolute("admin.test"), 1, 60, 60, 60, minimum);
            Record::from_rdata(absolute("test"), minimum, RData::SOA(soa))
        });
        Some(Reply { code, answers, soa })
    }

    /// Follows aliases and collects the records on the way.
    fn resolve(
        &self,
        name: &str,
        record_type: RecordType,
        answers: &mut Vec<Record>,
    ) -> Option<ResponseCode> {
        let Some(entry) = self.names.get(name) else { return Some(ResponseCode::NXDomain) };
        match entry.behaviour {
            Behaviour::Silent => return None,
            Behaviour::Code(code) => return Some(code),
            Behaviour::Records if entry.silent_aaaa && record_type == RecordType::AAAA => return None,
            Behaviour::Records => {}
        }
        if let Some([alias]) = entry.records.get(&RecordType::CNAME).map(Vec::as_slice) {
            answers.push(alias.clone());
            let RData::CNAME(CNAME(target)) = &alias.data else { return Some(ResponseCode::ServFail) };
            return self.resolve(&key(&target.to_string()), record_type, answers);
        }
        let records = entry.records.get(&record_type).into_iter().flatten().cloned();
        match entry.rotation.filter(|_| record_type == RecordType::A) {
            Some(Rotation { count, turn }) => {
                let all: Vec<Record> = records.collect();
                answers.extend(all.iter().cycle().skip(turn % all.len().max(1)).take(count).cloned());
            }
            None => answers.extend(records),
        }
        Some(ResponseCode::NoError)
    }
}

struct Handler(Zone);

impl Handler {
    fn reply(&self, request: &Request) -> Option<Reply> {
        let info = request.request_info().ok()?;
        let name = key(&info.query.name().to_string());
        let mut zone = self.0.lock();
        zone.count(&name, info.protocol == hickory_server::net::xfer::Protocol::Tcp);
        let reply = zone.reply(&name, info.query.query_type());
        zone.rotate(&name, info.query.query_type());
        reply
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let unsent = ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
        let Some(reply) = self.reply(request) else { return unsent };
        metadata.response_code = reply.code;
        // Without EDNS, so that more than 512 bytes over UDP are truncated.
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &reply.answers,
            [],
            &reply.soa,
            [],
        );
        response_handle.send_response(response).await.unwrap_or(unsent)
    }
}
