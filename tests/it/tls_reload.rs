//! Certificates, keys and trust anchors change while the daemon runs.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::task::JoinSet;
use towpath::app::Reloaded;

use crate::support::{
    Backend, Client, Daemon, Process, Speaks,
    daemon::one_service,
    eventually, get,
    pki::{Authority, Issued},
    secure::{Site, alpn, refusal, secure, without_resumption},
    within,
};

const MUTUAL: &str = "client_ca = \"DIR/clients.crt\"";

async fn shown(daemon: &Daemon, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = secure(daemon.address(), &without_resumption(config)).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// Takes new connections all the time, some of them resumed, with a few requests on each.
async fn load(
    daemon: std::net::SocketAddr,
    config: Arc<ClientConfig>,
    speaks: Speaks,
    over: Arc<AtomicBool>,
) -> u64 {
    let mut done = 0;
    while !over.load(Ordering::Relaxed) {
        let stream = secure(daemon, &config).await.unwrap_or_else(|error| panic!("{speaks:?}: {error}"));
        let mut client = Client::over(stream, speaks).await;
        for _ in 0..3 {
            let answer = client.ask(get("svc", "/")).await;
            assert_eq!((answer.status, answer.reason()), (200, ""), "{answer:?}");
            done += 1;
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rotations_of_certificate_key_and_bundle_under_load_fail_no_request() {
    let (site, backend) = (Site::new(), Backend::start("one").await);
    let mut clients = Authority::new("clients 0");
    fs::write(site.path().join("clients.crt"), &clients.pem).unwrap();
    let daemon =
        Daemon::start(&format!("{}{}", site.listener(MUTUAL), one_service("http1", &[backend.address])));
    let (mut served, connected) = (0, Arc::new(AtomicU64::new(0)));
    let mut lasting = Client::over(
        secure(daemon.address(), &site.authority.client(Some(&clients.issue(&["c.test"])), &["h2"]))
            .await
            .unwrap(),
        Speaks::Http2,
    )
    .await;
    for round in 1..=10 {
        let next = Authority::new(&format!("clients {round}"));
        let (over, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let caller = clients.issue(&["caller.test"]);
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let config = site.authority.client(Some(&caller), &[alpn(speaks)]);
            callers.spawn(load(daemon.address(), config, speaks, over.clone()));
        }
        for _ in 0..2 {
            let renewed = site.renew();
            let both = format!("{}{}", clients.pem, next.pem);
            fs::write(site.path().join("clients.crt"), both).unwrap();
            assert!(matches!(daemon.reload(None), Ok(Reloaded::Unchanged { .. })));
            let config = site.authority.client(Some(&next.issue(&["new.test"])), &["h2"]);
            assert_eq!(shown(&daemon, &config).await, renewed.chain()[0]);
            connected.fetch_add(1, Ordering::Relaxed);
        }
        over.store(true, Ordering::Relaxed);
        while let Some(done) = within("the load ends", callers.join_next()).await {
            served += done.unwrap();
        }
        // Nobody of the old ones comes any more: the new one alone is believed.
        fs::write(site.path().join("clients.crt"), &next.pem).unwrap();
        daemon.reload(None).unwrap();
        let late = refusal(daemon.address(), &site.authority.client(Some(&caller), &["h2"])).await;
        assert!(late.contains("UnknownCA"), "{late}");
        clients = next;
    }
    assert!(served > 100, "{served}");
    assert_eq!(lasting.ask(get("svc", "/")).await.status, 200, "a connection outlives its authority");
    let renewed = daemon.metric("tls_reloads_total", &[("result", "renewed")]).await;
    assert!(renewed >= 30.0, "{renewed}");
    assert_eq!(daemon.metric("tls_reloads_total", &[("result", "refused")]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pair_that_cannot_be_used_leaves_the_old_in_force_and_is_named_until_it_is_mended() {
    let (site, backend) = (Site::new(), Backend::start("one").await);
    let daemon = Daemon::start(&format!("{}{}", site.listener(""), one_service("http1", &[backend.address])));
    let config = site.client(Speaks::Http1);
    let file = site.file("node.crt");
    let before = shown(&daemon, &config).await;
    let half: Issued = site.authority.issue(&["node.test"]);
    let ended = site.authority.issue_ended(&["node.test"]);
    let write = |name: &str, text: &str| fs::write(site.path().join(name), text).unwrap();
    let good_key = fs::read_to_string(site.path().join("node.key")).unwrap();
    let good = fs::read_to_string(site.path().join("node.crt")).unwrap();
    let early = site.authority.issue_early(&["node.test"]);
    let bad: [(&str, &str, &str); 6] = [
        (&half.cert, &good_key, "is not the key"),
        (&half.cert[..half.cert.len() / 2], &half.key, "node.crt"),
        (&good, "", "holds no private key"),
        ("certificate", &half.key, "holds no certificate"),
        (&ended.cert, &ended.key, "has ended"),
        (&early.cert, &early.key, "is not valid yet"),
    ];
    for (cert, key, what) in bad {
        write("node.crt", cert);
        write("node.key", key);
        assert!(matches!(daemon.reload(None), Ok(Reloaded::Unchanged { .. })));
        assert_eq!(daemon.metric("tls_stale", &[("file", &file)]).await, 1.0, "{what}");
        let state = daemon.admin_get("/api/status").await.json()["certificates"][0].clone();
        assert_eq!(state["file"], file);
        let problem = state["problem"].as_str().unwrap();
        assert!(problem.contains(what) && !problem.contains("BEGIN"), "{problem}");
        assert_eq!(shown(&daemon, &config).await, before);
    }
    assert_eq!(daemon.metric("tls_reloads_total", &[("result", "refused")]).await, 6.0);
    write("node.crt", &half.cert);
    write("node.key", &half.key);
    daemon.reload(None).unwrap();
    assert_eq!(daemon.metric("tls_stale", &[("file", &file)]).await, 0.0);
    assert_eq!(shown(&daemon, &config).await, half.chain()[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_are_watched_and_what_changes_is_logged_with_its_name_and_without_its_content() {
    let (site, backend) = (Site::new(), Backend::start("one").await);
    let brief = site.authority.issue_until(&["node.test"], Duration::from_secs(3 * 86_400));
    brief.write(site.path(), "node");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(site.path().join("node.key"), mode).unwrap();
    let daemon =
        Process::start(&format!("{}{}", site.listener(""), one_service("http1", &[backend.address])));
    let (cert, key) = (site.file("node.crt"), site.file("node.key"));
    let days = daemon.metric("tls_days_to_expiry", &[("file", &cert)]).await;
    assert!((2.9..3.0).contains(&days), "{days}");
    eventually("warnings", async || {
        let log = daemon.log();
        log.contains("everybody on this host can read a private key") && log.contains("about to end")
    })
    .await;
    fs::write(&key, "no key").unwrap();
    eventually("the bad one is named", async || {
        daemon.log().contains(&format!("the old ones stay: {key} holds no private key"))
    })
    .await;
    assert_eq!(daemon.metric("tls_stale", &[("file", &cert)]).await, 1.0);
    let renewed = site.renew();
    let address = daemon.address().await;
    eventually("the new one is in use", async || {
        let stream = secure(address, &without_resumption(&site.client(Speaks::Http1))).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0] == renewed.chain()[0]
    })
    .await;
    eventually("the log says so", async || daemon.log().contains("new certificates are in use")).await;
    assert_eq!(daemon.metric("tls_stale", &[("file", &cert)]).await, 0.0);
    assert!(daemon.metric("tls_days_to_expiry", &[("file", &cert)]).await < 1.0);
    for secret in [&brief.key, &renewed.key] {
        let inside = secret.lines().nth(1).unwrap();
        assert!(!daemon.log().contains(inside));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_that_nobody_verifies_are_warned_of_at_every_reload() {
    let toml = "[[routes]]\nname = \"all\"\nbackends = [{ service = \"open\" }]\n\
                [services.open]\nendpoints = [\"127.0.0.1:1\"]\ntls = { server_name = \"a.test\", verify = \"none\" }\n";
    let daemon = Process::start(toml);
    let warnings = || {
        daemon.log().matches("verify = \\\"none\\\"").count()
            + daemon.log().matches("verify = \"none\"").count()
    };
    eventually("a warning", async || warnings() == 1).await;
    let mut admin = daemon.admin().await;
    admin.ask(crate::support::call("POST", "localhost", "/api/reload")).await;
    eventually("another", async || warnings() == 2).await;
    assert!(daemon.log().contains("services=\"open\""), "{}", daemon.log());
}
