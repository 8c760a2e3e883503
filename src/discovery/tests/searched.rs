//! What this host's files say: hosts, search list, servers.

use super::*;
use crate::discovery::system::SystemFiles;

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

    async fn lookup(&self, host: &str) -> Result<Answer, Unanswered> {
        let resolver = Resolver::new(&impatient(&[]), &self.system()).unwrap();
        resolver.lookup(&addresses_of(host)).await
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
    let prepared = Prepared::with_files(&config(&[]), files.system()).unwrap();
    let discovery = Discovery::scheduled(prepared, quick(), |_| false);
    let mut followed = Followed::by(&discovery, &Source::Srv("_http._tcp.reviews".to_owned()));
    assert_eq!(followed.endpoints().await, ["10.1.2.3:80"]);
    assert_eq!(server.queries("a.test.prod.test"), 0, "a target is a whole name");
}
