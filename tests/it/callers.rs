//! Who callers are: by their addresses, their users, their control groups, over TCP and Unix sockets; and never by what they say.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::{net::UnixStream, task::spawn_blocking};

use super::policies::{CALLERS, from};
use crate::support::{
    Backend, Client, Daemon, Speaks, client,
    daemon::one_service,
    get,
    secure::{Site, alpn, secure},
    within,
};

const OTHER_USER: u32 = 61_234;

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid()
}

fn caller(name: &str, rest: &str) -> String {
    format!("[[callers]]\nname = \"{name}\"\n{rest}\n")
}

/// One request by a process of its own; `begin` is what its shell does first.
async fn ask_as(uid: u32, begin: &str, daemon: &Daemon) {
    let script = format!(
        "{begin}\nexec 3<>/dev/tcp/127.0.0.1/{}\nprintf 'GET / HTTP/1.1\\r\\nhost: svc\\r\\nconnection: close\\r\\n\\r\\n' >&3\ncat <&3",
        daemon.address().port()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).uid(uid).current_dir("/");
    let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer} {}", String::from_utf8_lossy(&output.stderr));
}

async fn started(callers: &str) -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    (Daemon::start(&(callers.to_owned() + &one_service("http1", &[backend.address]))), backend)
}

async fn asked(daemon: &Daemon, caller: &str, count: f64) {
    daemon.metric_becomes("caller_requests_total", &[("caller", caller)], count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_rule_that_holds_names_a_caller_on_this_host() {
    let own = own_uid();
    let rules = caller("far", &format!("uid = {own}\naddress = \"10.0.0.0/8\""))
        + &caller("own", &format!("uid = {own}"))
        + &caller("here", "address = \"127.0.0.0/8\"");
    let (daemon, _backend) = started(&rules).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        client::ask(daemon.address(), speaks, get("svc", "/")).await;
    }
    asked(&daemon, "own", 2.0).await;
    if own != 0 {
        return eprintln!("only root can be somebody else: not tried with another user");
    }
    ask_as(OTHER_USER, "", &daemon).await;
    asked(&daemon, "here", 1.0).await;
    daemon
        .reload(Some(
            &(caller("other", &format!("uid = {OTHER_USER}")) + &one_service("http1", &[_backend.address])),
        ))
        .unwrap();
    ask_as(OTHER_USER, "", &daemon).await;
    asked(&daemon, "other", 1.0).await;
    asked(&daemon, "own", 2.0).await;
}

/// A control group (version 2) of its own, where this host lets us make one; removed again when this is dropped.
struct Group(PathBuf);

impl Group {
    fn make(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let path = Path::new(line.split(' ').nth(4)?).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_control_group_that_came_after_the_start_is_known_by_its_path() {
    let (daemon, _backend) = started(&caller("shop", "cgroup = \"*/towpath-test-shop-*\"")).await;
    let Some(group) = Group::make("towpath-test-shop") else {
        return eprintln!("no control group can be made here: not tried");
    };
    let enter = format!("echo $$ > {}/cgroup.procs || exit 1", group.0.display());
    ask_as(own_uid(), &enter, &daemon).await;
    asked(&daemon, "shop", 1.0).await;
    client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    daemon.metric_becomes("requests_total", &[], 2.0).await;
    asked(&daemon, "shop", 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_connects_a_unix_socket_is_known_by_its_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("towpath.sock");
    let listener = format!(
        "[[listeners]]\nname = \"unix\"\nkind = \"outgoing\"\nlisten = \"unix:{}\"\n",
        path.display()
    );
    let rules = caller("other", &format!("uid = {OTHER_USER}"))
        + &caller("near", &format!("uid = {}\naddress = \"127.0.0.0/8\"", own_uid()))
        + &caller("grouped", &format!("uid = {}\ncgroup = \"/no/such/*\"", own_uid()))
        + &caller("own", &format!("uid = {}", own_uid()));
    let (daemon, _backend) = started(&(listener + &rules)).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let stream = within("connect", UnixStream::connect(&path)).await.unwrap();
        assert_eq!(Client::over(stream, speaks).await.ask(get("svc", "/")).await.status, 200);
    }
    asked(&daemon, "own", 2.0).await;
}

over_both_protocols! {
    async fn nobody_is_who_a_header_says(speaks: Speaks) {
        let (daemon, _backend) = started(CALLERS).await;
        let mut web = from("127.0.0.2", daemon.address(), speaks).await;
        for (name, value) in [("towpath-caller", "ops"), ("Towpath-Caller", "ops"), ("x-forwarded-for", "127.0.0.3")] {
            let answer = web.ask(get("svc", "/").header(name, value)).await;
            assert!(answer.json()["headers"]["towpath-caller"].is_null(), "{}", answer.text());
        }
        asked(&daemon, "web", 3.0).await;
        asked(&daemon, "ops", 0.0).await;
    }
}

over_both_protocols! {
    async fn a_reload_names_open_connections_anew(speaks: Speaks) {
        let (daemon, backend) = started(CALLERS).await;
        let mut web = from("127.0.0.2", daemon.address(), speaks).await;
        web.ask(get("svc", "/")).await;
        daemon.metric_becomes("caller_connections", &[("caller", "web")], 1.0).await;
        let callers = daemon.admin_get("/api/callers").await.json();
        assert_eq!(callers["callers"], serde_json::json!([{ "name": "web", "connections": 1 }]), "{callers}");
        let service = one_service("http1", &[backend.address]);
        let renamed = CALLERS.replace("\"web\"", "\"shop\"");
        daemon.reload(Some(&format!("{renamed}{service}"))).unwrap();
        web.ask(get("svc", "/")).await;
        daemon.metric_becomes("caller_connections", &[("caller", "shop")], 1.0).await;
        daemon.metric_becomes("caller_connections", &[("caller", "web")], 0.0).await;
        // Its user had not been asked for until now.
        let by_user = caller("user", &format!("uid = {}", own_uid()));
        daemon.reload(Some(&format!("{by_user}{service}"))).unwrap();
        web.ask(get("svc", "/")).await;
        asked(&daemon, "user", 1.0).await;
        drop(web);
        daemon.metric_becomes("caller_connections", &[], 0.0).await;
    }
}

/// What the echo says it got, and a connection with a certificate for `names`.
async fn certified(site: &Site, daemon: &Daemon, names: &[&str], speaks: Speaks) -> Client {
    let issued = site.authority.issue(names);
    let config = site.authority.client(Some(&issued), &[alpn(speaks)]);
    Client::over(secure(daemon.address(), &config).await.unwrap(), speaks).await
}

/// A listener of this kind where those with a certificate for `spiffe://prod/node/` are nodes.
async fn behind(site: &Site, kind: &str, rules: &str) -> (Daemon, Backend) {
    let listener = site.listener("client_ca = \"DIR/ca.crt\", nodes = [\"spiffe://prod/node/*\"]");
    let listener = listener.replace("kind = \"outgoing\"", &format!("kind = \"{kind}\""));
    let backend = Backend::start("one").await;
    let service = one_service("http1", &[backend.address]);
    let service = service.replacen("hosts =", "listeners = [\"outgoing\"]\nhosts =", 1);
    (Daemon::start(&(listener + rules + &service)), backend)
}

over_both_protocols! {
    async fn whoever_calls_through_an_outgoing_listener_speaks_for_itself_alone(speaks: Speaks) {
        let site = Site::new();
        let rule = "[[policies]]\nname = \"p\"\nservice = \"*\"\nallow = [{ callers = [\"admin\"] }]\n";
        for (kind, status) in [("incoming", 200), ("outgoing", 403)] {
            let (daemon, _backend) = behind(&site, kind, rule).await;
            let mut client = certified(&site, &daemon, &["spiffe://prod/node/a"], speaks).await;
            let answer = client.ask(get("svc", "/").header("towpath-caller", "admin")).await;
            assert_eq!(answer.status, status, "{kind}: {answer:?}");
        }
    }
}

over_both_protocols! {
    async fn a_certificate_names_its_caller_and_only_a_node_names_another(speaks: Speaks) {
        let site = Site::new();
        let rules = caller("shop", "spiffe = \"spiffe://prod/ns/shop/*\"");
        let (daemon, _backend) = behind(&site, "incoming", &rules).await;
        for (names, claimed, expected) in [
            (&["spiffe://prod/ns/shop/sa/web"][..], None, "shop"),
            (&["spiffe://prod/ns/bank/sa/teller", "teller.internal"], None, "spiffe://prod/ns/bank/sa/teller"),
            (&["stock.internal", "other.internal"], None, "stock.internal"),
            (&["stock2.internal"], Some("admin"), "stock2.internal"),
            (&["spiffe://prod/node/a"], Some("checkout"), "checkout"),
            (&["spiffe://prod/node/b"], None, "spiffe://prod/node/b"),
        ] {
            let mut client = certified(&site, &daemon, names, speaks).await;
            let mut request = get("svc", "/");
            if let Some(claimed) = claimed {
                request = request.header("towpath-caller", claimed);
            }
            let answer = client.ask(request).await;
            assert!(answer.json()["headers"]["towpath-caller"].is_null(), "{}", answer.text());
            asked(&daemon, expected, 1.0).await;
        }
        asked(&daemon, "admin", 0.0).await;
    }
}

over_both_protocols! {
    async fn a_certificate_alone_makes_nobody_a_node_on_an_outgoing_listener(speaks: Speaks) {
        let site = Site::new();
        let (daemon, _backend) = started(&site.listener("client_ca = \"DIR/ca.crt\"")).await;
        let mut client = certified(&site, &daemon, &["stock.internal"], speaks).await;
        let answer = client.ask(get("svc", "/").header("towpath-caller", "admin")).await;
        assert!(answer.json()["headers"]["towpath-caller"].is_null(), "{}", answer.text());
        asked(&daemon, "stock.internal", 1.0).await;
        asked(&daemon, "admin", 0.0).await;
    }
}
