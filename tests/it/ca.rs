//! `towpath ca`: certificates for development.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use towpath::tls::Names;

use crate::support::{Backend, Client, Daemon, Speaks, daemon::one_service, get, secure::secure_as};

fn ca(directory: &Path, args: &[&str]) -> Output {
    let command = env!("CARGO_BIN_EXE_towpath");
    Command::new(command).arg("ca").args(args).current_dir(directory).output().unwrap()
}

fn made(directory: &Path, args: &[&str]) -> String {
    let output = ca(directory, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(directory: &Path, args: &[&str]) -> String {
    let output = ca(directory, args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn certificate(directory: &Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(directory.join(name)).unwrap()
}

fn client(directory: &Path, name: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(directory, "tls/ca.crt")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join(format!("tls/{name}.key"))).unwrap();
    let chain = vec![certificate(directory, &format!("tls/{name}.crt"))];
    Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_it_prints_makes_a_listener_that_its_own_certificates_may_call() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    made(directory, &["init", "--trust-domain", "prod.test"]);
    let said = made(directory, &["issue", "node", "other"]);
    let tls = said.lines().find(|line| line.starts_with("tls = ")).unwrap();
    let tls = tls.replace("tls/", &format!("{}/tls/", directory.display()));
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&format!(
        "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n{tls}\n{}",
        one_service("http1", &[backend.address])
    ));
    let stream = secure_as(daemon.address(), &client(directory, "other"), "node").await.unwrap();
    assert_eq!(Client::over(stream, Speaks::Http1).await.ask(get("svc", "/")).await.status, 200);
    made(directory, &["init", "--dir", "foreign"]);
    made(directory, &["issue", "stranger", "--dir", "foreign"]);
    fs::copy(directory.join("foreign/stranger.crt"), directory.join("tls/stranger.crt")).unwrap();
    fs::copy(directory.join("foreign/stranger.key"), directory.join("tls/stranger.key")).unwrap();
    let refusal = refusal_as(&daemon, &client(directory, "stranger")).await;
    assert!(refusal.contains("UnknownCA"), "{refusal}");
}

/// What is said to who was refused, by a node that is called `node`.
async fn refusal_as(daemon: &Daemon, config: &Arc<ClientConfig>) -> String {
    use tokio::io::AsyncReadExt;
    let mut stream = secure_as(daemon.address(), config, "node").await.unwrap();
    stream.read(&mut [0; 1]).await.unwrap_err().to_string()
}

#[test]
fn a_certificate_is_for_its_name_and_for_what_else_was_asked() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    made(directory, &["init", "--trust-domain", "prod.test"]);
    made(directory, &["issue", "node-7", "--dns", "a.test,*.b.test", "--ip", "10.0.0.7", "--days", "3"]);
    let names = Names::of(&certificate(directory, "tls/node-7.crt"));
    assert_eq!(names.spiffe.as_deref(), Some("spiffe://prod.test/node/node-7"));
    assert_eq!(names.dns, ["node-7", "a.test", "*.b.test"]);
    made(directory, &["issue", "shop", "--spiffe", "spiffe://prod.test/ns/shop/sa/web"]);
    let names = Names::of(&certificate(directory, "tls/shop.crt"));
    assert_eq!(names.spiffe.as_deref(), Some("spiffe://prod.test/ns/shop/sa/web"));
    for (name, mode) in [("ca.crt", 0o644), ("ca.key", 0o600), ("shop.crt", 0o644), ("shop.key", 0o600)] {
        let metadata = fs::metadata(directory.join("tls").join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn one_command_is_enough_and_a_further_one_uses_the_same_authority() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    assert!(made(directory, &["issue", "node"]).contains("whoever has ca.key"));
    let authority = certificate(directory, "tls/ca.crt");
    assert!(!made(directory, &["issue", "127.0.0.1"]).contains("ca.key"));
    assert_eq!(certificate(directory, "tls/ca.crt"), authority);
}

#[test]
fn nothing_is_replaced_without_force() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    made(directory, &["issue", "node"]);
    let before = certificate(directory, "tls/node.crt");
    assert!(refused(directory, &["init"]).contains("tls/ca.crt, tls/ca.key: there already"));
    let text = refused(directory, &["issue", "fresh", "node"]);
    assert!(text.contains("tls/node.crt, tls/node.key: there already; --force replaces"), "{text}");
    assert!(!directory.join("tls/fresh.crt").exists(), "all or nothing");
    assert_eq!(certificate(directory, "tls/node.crt"), before);
    made(directory, &["issue", "node", "--force"]);
    assert_ne!(certificate(directory, "tls/node.crt"), before);
}

#[test]
fn names_that_make_no_sense_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for args in [
        &["issue"][..],
        &["issue", "../node"],
        &["issue", "ca"],
        &["issue", "a b"],
        &["issue", "a", "b", "--ip", "10.0.0.1"],
        &["issue", "a", "--ip", "10.0.0"],
        &["issue", "a", "--spiffe", "https://a"],
        &["issue", "a", "--days", "0"],
        &["init", "--trust-domain", "Prod"],
    ] {
        assert!(!refused(directory, args).is_empty());
    }
    assert!(!directory.join("tls").exists());
    fs::create_dir(directory.join("tls")).unwrap();
    fs::write(directory.join("tls/ca.crt"), "no certificate").unwrap();
    assert!(refused(directory, &["issue", "a"]).contains("tls/ca.key"));
}
