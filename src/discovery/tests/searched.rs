//! What this host's files say: hosts, search list, servers.

use super::*;
use crate::discovery::dns::system::SystemFiles;

/// A resolv.conf and a hosts file of a test's own.
struct Files {
    directory: tempfile::TempDir,
    port: u16,
}

impl Files {
    fn new(server: &DnsServer, resolv_conf: &str, hosts: &str) -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap(), port: server.address().port() };
        files.resolv_conf(&format!("nameserver {}\n{resolv_conf}", server.address().ip()));
        files.write("hosts", hosts);
        files
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path();
        std::fs::write(path.join("new"), text).unwrap();
        std::fs::rename(path.join("new"), path.join(name)).unwrap();
    }

    fn resolv_conf(&self, text: &str) {
        self.write("resolv.conf", text);
    }

    fn system(&self) -> SystemFiles {
        let path = self.directory.path();
        SystemFiles { resolv_conf: path.join("resolv.conf"), hosts: path.join("hosts"), port: self.port }
    }

    fn discovery(&self) -> Discovery {
        let prepared = Prepared::with_files(&config(&[]), self.system(), &series()).unwrap();
        Discovery::scheduled(prepared, Schedule::default(), |_| false)
    }

    async fn lookup(&self, host: &str) -> Result<Answer, Unanswered> {
        let resolver = Resolver::new(&impatient(&[]), &self.system(), &series()).unwrap();
        resolve(&resolver, host).await
    }
}

#[tokio::test(flavor = "local")]
async fn the_hosts_file_goes_before_dns() {
    let server = DnsServer::start();
    server.set_a("reviews", 60, &[Ipv4Addr::new(10, 9, 9, 9)]);
    let files = Files::new(&server, "search prod.test", "10.1.2.3 reviews\nfd00::7 reviews\n");
    assert_eq!(ips(&files.lookup("reviews").await.unwrap()), [IpAddr::from(V4), IpAddr::from(V6)]);
    assert_eq!(server.queries("reviews") + server.queries("reviews.prod.test"), 0);
}

#[tokio::test(flavor = "local")]
async fn both_families_come_from_the_first_name_that_has_either() {
    let server = DnsServer::start();
    server.set_a("reviews.prod.test", 60, &[V4]);
    server.set_aaaa("reviews.other.test", 60, &[V6]);
    let files = Files::new(&server, "search none.test prod.test other.test", "");
    assert_eq!(ips(&files.lookup("reviews").await.unwrap()), [V4]);
}

#[tokio::test(flavor = "local")]
async fn a_server_failure_ends_the_search() {
    let server = DnsServer::start();
    server.servfail("reviews.prod.test");
    server.set_a("reviews.other.test", 60, &[V4]);
    let files = Files::new(&server, "search prod.test other.test", "");
    assert_eq!(files.lookup("reviews").await.unwrap_err().failure.kind, FailureKind::ServFail);
}

#[tokio::test(flavor = "local")]
async fn a_search_in_vain_names_all_it_tried() {
    let server = DnsServer::start();
    let files = Files::new(&server, "search prod.test", "");
    let failure = files.lookup("reviews").await.unwrap_err().failure;
    let asked = server.address();
    assert_eq!(
        failure.message,
        format!("reviews: no such name (NXDOMAIN, tried reviews.prod.test, reviews, asked {asked})")
    );
}

#[tokio::test(flavor = "local")]
async fn srv_records_are_searched_for_like_addresses() {
    let server = DnsServer::start();
    server.set_srv("_http._tcp.reviews.prod.test", 60, &[(0, 0, 80, "a.test")]);
    server.set_a("a.test", 60, &[V4]);
    let files = Files::new(&server, "search prod.test\noptions ndots:5", "");
    let discovery = files.discovery();
    let mut followed = Followed::by(&discovery, &Source::Srv("_http._tcp.reviews".to_owned()));
    assert_eq!(followed.endpoints().await, ["10.1.2.3:80"]);
    assert_eq!(server.queries("a.test.prod.test"), 0, "a target is a whole name");
}

/// Two servers on one port, at 127.0.0.1 and 127.0.0.2.
fn two_servers() -> (DnsServer, DnsServer) {
    for _ in 0..20 {
        let one = DnsServer::start();
        let second = SocketAddr::new([127, 0, 0, 2].into(), one.address().port());
        if let Some(two) = DnsServer::start_at(second) {
            return (one, two);
        }
    }
    panic!("no port is free at both addresses");
}

#[tokio::test(flavor = "local")]
async fn names_that_fail_are_asked_for_at_the_servers_of_a_new_resolv_conf_at_once() {
    let (one, two) = two_servers();
    one.set_negative_ttl(300);
    one.set_a("other.test", 300, &[V4]);
    two.set_a("reviews.test", 300, &[V4]);
    let files = Files::new(&one, "", "");
    let discovery = files.discovery();
    let mut reviews = Followed::by(&discovery, &named("reviews.test", 80));
    let mut other = Followed::by(&discovery, &named("other.test", 80));
    reviews.failure().await;
    other.endpoints().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    files.resolv_conf("nameserver 127.0.0.2\n");
    assert_eq!(reviews.endpoints().await, ["10.1.2.3:80"]);
    assert_eq!(two.queries("other.test"), 0, "what resolves is asked for when it is due");
}

#[tokio::test(flavor = "local")]
async fn a_broken_resolv_conf_changes_nothing_and_the_next_good_one_counts() {
    let (one, two) = two_servers();
    two.set_a("reviews.test", 300, &[V4]);
    let files = Files::new(&one, "", "");
    let discovery = files.discovery();
    let mut reviews = Followed::by(&discovery, &named("reviews.test", 80));
    reviews.failure().await;
    files.resolv_conf("nameserver over-there\n");
    let (_, message) = reviews.failure().await;
    assert!(message.contains(&one.address().to_string()), "{message}");
    files.resolv_conf("nameserver 127.0.0.2\n");
    reviews.until(&["10.1.2.3:80"]).await;
}

#[tokio::test(flavor = "local")]
async fn a_new_search_list_counts_for_names_that_are_followed() {
    let server = DnsServer::start();
    server.set_a("reviews.prod.test", 300, &[V4]);
    let files = Files::new(&server, "search none.test", "");
    let discovery = files.discovery();
    let mut reviews = Followed::by(&discovery, &named("reviews", 80));
    reviews.failure().await;
    files.resolv_conf(&format!("nameserver {}\nsearch prod.test\n", server.address().ip()));
    reviews.until(&["10.1.2.3:80"]).await;
}

#[tokio::test(flavor = "local")]
async fn a_changed_entry_of_the_hosts_file_counts_at_once() {
    let server = DnsServer::start();
    server.set_a("moved.test", 300, &[V4]);
    let files = Files::new(&server, "", "10.1.2.3 reviews.test\n");
    let discovery = files.discovery();
    let mut reviews = Followed::by(&discovery, &named("reviews.test", 80));
    let mut moved = Followed::by(&discovery, &named("moved.test", 80));
    assert_eq!(reviews.endpoints().await, ["10.1.2.3:80"]);
    moved.endpoints().await;
    files.write("hosts", "10.1.2.4 reviews.test\n10.1.2.4 moved.test\n");
    reviews.until(&["10.1.2.4:80"]).await;
    moved.until(&["10.1.2.4:80"]).await;
}
