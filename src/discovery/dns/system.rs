//! What this host's files say about names: `/etc/resolv.conf` (servers, search list, `ndots`) and `/etc/hosts`.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use hickory_resolver::{
    Hosts,
    config::ResolverOpts,
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf,
};

use super::{
    answer::Share,
    members::{Answer, Member},
    search::Search,
};

/// Where the files are, and on which port the servers named in them listen.
#[derive(Clone, Debug)]
pub(in crate::discovery) struct SystemFiles {
    pub(in crate::discovery) resolv_conf: PathBuf,
    pub(in crate::discovery) hosts: PathBuf,
    /// resolv.conf(5) knows no other port than 53; tests do.
    pub(in crate::discovery) port: u16,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), port: 53 }
    }
}

/// What `resolv.conf` says.
pub(in crate::discovery) struct ResolvConf {
    /// Distinct, in order; at least one.
    pub(in crate::discovery) servers: Vec<SocketAddr>,
    pub(super) search: Search,
    /// Timeout and attempts among them are overruled by `[dns]`.
    pub(in crate::discovery) options: ResolverOpts,
}

impl SystemFiles {
    /// A system without the file, or without a server in it, has its resolver on this host (resolv.conf(5)).
    ///
    /// # Errors
    /// The file cannot be read or understood; the text names it and the reason.
    pub(in crate::discovery) fn resolv_conf(&self) -> Result<ResolvConf, String> {
        let path = self.resolv_conf.display();
        let text = match fs::read(&self.resolv_conf) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(format!("{path}: {e}")),
        };
        parse_resolv_conf(&text, self.port).map_err(|e| format!("{path}: {e}"))
    }

    /// Empty when there is none, or none that can be read.
    pub(in crate::discovery) fn hosts(&self) -> HostsFile {
        HostsFile::parse(&fs::read(&self.hosts).unwrap_or_default())
    }
}

/// Names that need no DNS.
#[derive(Debug, Default)]
pub(in crate::discovery) struct HostsFile(Hosts);

impl HostsFile {
    /// Lines that make no sense are passed over, as the system does.
    pub(in crate::discovery) fn parse(text: &[u8]) -> Self {
        let mut hosts = Hosts::default();
        let text = String::from_utf8_lossy(text);
        if let Err(error) = hosts.read_hosts_conf(text.as_bytes()) {
            tracing::warn!(%error, "the hosts file cannot be read");
        }
        Self(hosts)
    }

    /// As with the system's resolver, a host that the file lists is not asked for in DNS at all.
    pub(in crate::discovery) fn entry(&self, host: &str) -> Option<Answer> {
        let name = Name::from_str_relaxed(host).ok()?;
        let mut found = Vec::new();
        for record_type in [RecordType::A, RecordType::AAAA] {
            let listed = self.0.lookup_static_host(&Query::query(name.clone(), record_type));
            let addresses = listed.iter().flat_map(|listed| listed.answers());
            found.extend(addresses.filter_map(|record| record.data.ip_addr()));
        }
        let found: Vec<_> = found.into_iter().map(|ip| (Member::Address(ip), Share::default())).collect();
        // The file holds until it changes, which is noticed.
        (!found.is_empty()).then(|| Answer::new(found, Duration::from_secs(24 * 3600)))
    }
}

fn parse_resolv_conf(text: &str, port: u16) -> Result<ResolvConf, String> {
    let named = text.lines().any(|line| line.trim_start().starts_with("nameserver"));
    let text = if named { text.to_owned() } else { format!("{text}\nnameserver {}\n", Ipv4Addr::LOCALHOST) };
    let (config, options) = system_conf::parse_resolv_conf(text).map_err(|e| e.to_string())?;
    let mut seen = BTreeSet::new();
    let servers = config.name_servers().iter().map(|server| SocketAddr::new(server.ip, port));
    let servers = servers.filter(|address| seen.insert(*address)).collect();
    // The host's own domain counts only when the file has no search list.
    let domains = match config.search() {
        [] => config.domain().cloned().into_iter().collect(),
        search => search.to_vec(),
    };
    let domains = domains.into_iter().filter(|domain: &Name| !domain.is_root()).collect();
    Ok(ResolvConf { servers, search: Search { domains, ndots: options.ndots }, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_gives_servers_search_list_and_ndots() {
        let text = "search prod.svc.cluster.local cluster.local\nnameserver 10.0.0.2\nnameserver fd00::2\n\
                    nameserver 10.0.0.2\noptions ndots:5\n";
        let file = parse_resolv_conf(text, 53).unwrap();
        assert_eq!(file.servers, ["10.0.0.2:53".parse().unwrap(), "[fd00::2]:53".parse().unwrap()]);
        let domains: Vec<_> = file.search.domains.iter().map(Name::to_string).collect();
        assert_eq!(domains, ["prod.svc.cluster.local", "cluster.local"]);
        assert_eq!(file.search.ndots, 5);
    }

    #[test]
    fn without_a_nameserver_the_local_one_is_asked() {
        let file = parse_resolv_conf("# nothing here\n", 53).unwrap();
        assert_eq!(file.servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_missing_file_counts_as_an_empty_one_and_a_broken_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let files = SystemFiles { resolv_conf: path.clone(), ..SystemFiles::default() };
        assert_eq!(files.resolv_conf().unwrap().servers, ["127.0.0.1:53".parse().unwrap()]);
        fs::write(&path, "nameserver over-there\n").unwrap();
        let problem = files.resolv_conf().err().unwrap();
        assert!(problem.starts_with(&path.display().to_string()), "{problem}");
    }

    #[test]
    fn odd_lines_of_the_hosts_file_are_passed_over() {
        let hosts = HostsFile::parse(b"\xff\xfe x\nnonsense\n10.1.2.3 reviews # here\n");
        assert_eq!(hosts.entry("reviews").unwrap().found.len(), 1);
        assert!(hosts.entry("here").is_none());
    }
}
