//! What can be asked of `towpath ca`, and what it says.

use std::{
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use rustls::pki_types::DnsName;

use super::{
    authority::{Authority, Subject, spiffe_domain},
    files::Files,
};
use crate::{
    cli::{
        args::{Ca, CaFiles, CaInit, CaIssue},
        outcome::{Failure, Outcome},
    },
    telemetry,
};

const DAY: Duration = Duration::from_secs(86_400);

pub(in crate::cli) fn perform(command: Ca) -> Outcome {
    match command {
        Ca::Init(args) => init(&args),
        Ca::Issue(args) => issue(&args),
    }
}

fn init(args: &CaInit) -> Outcome {
    let mut files = Files::new(&args.files.dir, args.files.force);
    files.expect(&["ca.crt", "ca.key"]).map_err(Failure::usage)?;
    make_authority(&mut files, &args.trust_domain, &args.files)?;
    Ok(format!("{}# next: towpath ca issue NAME\n", authority_made(&args.files.dir, &args.trust_domain)))
}

fn make_authority(files: &mut Files, domain: &str, args: &CaFiles) -> Result<Authority, Failure> {
    if !spiffe_domain(domain) {
        let text =
            format!("--trust-domain: {domain:?} is none; allowed are lower case letters, digits, \".-_\"");
        return Err(Failure::usage(text));
    }
    let end = SystemTime::now() + DAY * args.days.unwrap_or(3650);
    let authority = Authority::new(domain, end).map_err(Failure::running)?;
    files.write("ca.key", &authority.key_pem(), true).map_err(Failure::running)?;
    files.write("ca.crt", authority.certificate_pem(), false).map_err(Failure::running)?;
    Ok(authority)
}

fn authority_made(dir: &Path, domain: &str) -> String {
    let dir = dir.display();
    format!(
        "# made {dir}/ca.crt and {dir}/ca.key, the authority of {domain}; whoever has ca.key can be any node\n"
    )
}

fn issue(args: &CaIssue) -> Outcome {
    let mut files = Files::new(&args.files.dir, args.files.force);
    let subjects = subjects(args).map_err(Failure::usage)?;
    let made = args.names.iter().flat_map(|name| [format!("{name}.crt"), format!("{name}.key")]);
    let made: Vec<String> = made.collect();
    files.expect(&made.iter().map(String::as_str).collect::<Vec<_>>()).map_err(Failure::usage)?;
    let mut said = String::new();
    let authority = if files.has("ca.crt") || files.has("ca.key") {
        Authority::read(&files).map_err(Failure::usage)?
    } else {
        said = authority_made(&args.files.dir, DEFAULT_DOMAIN);
        make_authority(&mut files, DEFAULT_DOMAIN, &CaFiles { days: None, ..args.files.clone() })?
    };
    let end = SystemTime::now() + DAY * args.files.days.unwrap_or(365);
    for subject in subjects {
        let (cert, key) = authority.issue(&subject, end).map_err(Failure::running)?;
        files.write(&format!("{}.key", subject.name), &key, true).map_err(Failure::running)?;
        files.write(&format!("{}.crt", subject.name), &cert, false).map_err(Failure::running)?;
        said += &describe(&args.files.dir, &subject, &authority, end);
    }
    Ok(said)
}

/// Of an authority that `towpath ca issue` makes by itself.
pub(in crate::cli) const DEFAULT_DOMAIN: &str = "towpath.test";

fn subjects(args: &CaIssue) -> Result<Vec<Subject>, String> {
    let own = !(args.dns.is_empty() && args.ip.is_empty()) || args.spiffe.is_some();
    if own && args.names.len() > 1 {
        return Err("--dns, --ip and --spiffe belong to one certificate: issue them one by one".to_owned());
    }
    if let Some(id) = args.spiffe.as_deref().filter(|id| !id.starts_with("spiffe://")) {
        return Err(format!("--spiffe: {id:?} is none; such as spiffe://prod/ns/shop/sa/orders"));
    }
    args.names.iter().map(|name| subject(name, args)).collect()
}

fn subject(name: &str, args: &CaIssue) -> Result<Subject, String> {
    let mut subject = Subject {
        name: name.to_owned(),
        dns: Vec::new(),
        addresses: args.ip.clone(),
        spiffe: args.spiffe.clone(),
    };
    match name.parse::<IpAddr>() {
        Ok(address) => subject.addresses.insert(0, address),
        Err(_) => subject.dns.push(name.to_owned()),
    }
    subject.dns.extend_from_slice(&args.dns);
    // It becomes the name of a file as well. A wildcard is one of DNS names that --dns takes.
    let bad = |dns: &&String| DnsName::try_from(dns.strip_prefix("*.").unwrap_or(dns)).is_err();
    if name == "ca" || name.starts_with('*') || name.contains('/') {
        return Err(format!("{name:?} cannot be a node's name; name it with --dns, beside one that can"));
    }
    match subject.dns.iter().find(bad) {
        Some(dns) => Err(format!("{dns:?} is neither a DNS name nor an IP address")),
        None => Ok(subject),
    }
}

/// What was made, and lines of configuration that use it.
fn describe(dir: &Path, subject: &Subject, authority: &Authority, end: SystemTime) -> String {
    let (dir, name) = (dir.display(), &subject.name);
    let mut until = String::new();
    // A string takes everything.
    let _ = telemetry::write_time(&mut until, end);
    let names = subject.alternative_names(authority).join(", ");
    format!(
        "# made {dir}/{name}.crt and {dir}/{name}.key: {names}, until {until}\n\
         # for a listener of this node:\n\
         tls = {{ cert = \"{dir}/{name}.crt\", key = \"{dir}/{name}.key\", client_ca = \"{dir}/ca.crt\" }}\n\
         # for a service whose calls go to the towpath of the endpoint's node:\n\
         peer = {{ port = 4141, tls = {{ ca = \"{dir}/ca.crt\", cert = \"{dir}/{name}.crt\", key = \"{dir}/{name}.key\" }} }}\n"
    )
}
