//! The real program as a process of its own, for what only a process has: signals, exit codes, limits, its log.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Answer, Client, Speaks, call, client, daemon, eventually};

/// A running daemon; killed when this is dropped.
pub struct Process {
    child: Child,
    directory: TempDir,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
    out: Arc<Mutex<String>>,
}

/// `towpath.toml` in a directory of its own.
fn written(toml: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("towpath.toml");
    fs::write(&path, daemon::complete(toml)).unwrap();
    (directory, path)
}

/// Runs a configuration that does not start: the exit code and what it says on standard error.
pub fn refused(toml: &str) -> (Option<i32>, String) {
    let (_directory, path) = written(toml);
    let output =
        Command::new(env!("CARGO_BIN_EXE_towpath")).args(["run", "--config"]).arg(&path).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Process {
    /// Starts from `toml`, completed as for a [`super::Daemon`], and waits until it runs.
    pub fn start(toml: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towpath"));
        command.args(["run", "--config"]);
        Self::run(command, toml)
    }

    /// As [`Self::start`], with this level of its log.
    pub fn logging(toml: &str, level: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towpath"));
        command.args(["run", "--log-level", level, "--config"]);
        Self::run(command, toml)
    }

    /// With no more than this many file descriptors.
    pub fn with_descriptors(toml: &str, most: u32) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {most}; exec \"$0\" run --config \"$1\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_towpath")]);
        Self::run(command, toml)
    }

    fn run(mut command: Command, toml: &str) -> Self {
        let (directory, path) = written(toml);
        let pipes = command.arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let out = collect(child.stdout.take().unwrap());
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        let admin = loop {
            let from = text.len();
            assert!(lines.read_line(&mut text).unwrap() > 0, "it did not start:\n{text}");
            if let Some((_, rest)) = text[from..].split_once("admin=") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        let log = collect(lines);
        log.lock().unwrap().insert_str(0, &text);
        Self { child, directory, admin, log, out }
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("towpath.toml")
    }

    /// Writes the configuration file anew, without telling the daemon.
    pub fn configure(&self, toml: &str) {
        fs::write(self.config(), daemon::complete(toml)).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process has ended.
    pub async fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// The most memory that it has had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// A figure of its `smaps_rollup`, such as `Anonymous`, in bytes.
    pub fn memory(&self, figure: &str) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let rest = rollup.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':')).unwrap();
        rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// What it has written to its log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What it has written to standard output so far.
    pub fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    /// A connection to the admin API.
    pub async fn admin(&self) -> Client {
        Client::connect(self.admin, Speaks::Http1).await
    }

    pub async fn admin_get(&self, path: &str) -> Answer {
        client::ask(self.admin, Speaks::Http1, call("GET", "localhost", path)).await
    }

    /// Where the listener `outgoing` is.
    pub async fn address(&self) -> SocketAddr {
        let status = self.admin_get("/api/status").await.json();
        let listeners = status["listeners"].as_array().unwrap();
        let outgoing = listeners.iter().find(|listener| listener["name"] == "outgoing").unwrap();
        outgoing["address"].as_str().unwrap().parse().unwrap()
    }

    /// As [`super::Daemon::metric`].
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.admin_get("/metrics").await.text();
        daemon::sum_of_series(&text, &format!("towpath_{name}"), labels)
    }
}

impl Process {
    /// What it says of itself, without a runtime: one of a failed test may do nothing more.
    fn last_words(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /api/status HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
        let mut status = String::new();
        stream.read_to_string(&mut status)?;
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}\n/api/status: {:?}", self.log(), self.last_words());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end on a thread of its own: a daemon whose output nobody reads would stop at a full pipe.
fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let to = text.clone();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            to.lock().unwrap().push_str(&(line + "\n"));
        }
    });
    text
}
