//! What can be typed.

use std::{net::IpAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::ca;
use crate::telemetry::log::LogFormat;

/// A service mesh data plane: one proxy daemon per host.
#[derive(Debug, Parser)]
#[command(name = "towpath", version, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon. SIGHUP reloads; SIGUSR1 opens the access log again; SIGTERM and SIGINT drain, a second one exits at once.
    Run(Run),
    /// Check a configuration file; prints every problem.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Say where a request would go, and why not elsewhere.
    Explain(Explain),
    /// Sample services and the daemon in one process, with a little traffic.
    Demo {
        /// Exit after the three acts, instead of at Ctrl-C.
        #[arg(long)]
        once: bool,
    },
    /// Show the state of a running daemon.
    Status(Remote),
    /// Let a running daemon read its configuration again; waits for the outcome.
    Reload(Remote),
    /// Let a running daemon finish its requests and exit.
    Drain(Remote),
    /// Show the requests of a running daemon as they happen.
    Tap(Tap),
    /// Show what a running daemon's services do: rate, success, latency, a table that renews itself. q ends it.
    Top(Top),
    /// Make certificates for development: an authority, and nodes that it vouches for.
    #[command(subcommand)]
    Ca(Ca),
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Print a completion script.
    Completions {
        /// For this shell.
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/towpath/towpath.toml")]
    pub(super) config: PathBuf,
    /// What a line of towpath's own log looks like.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(super) log_format: Format,
    /// What is logged: off, error, warn, info, debug, trace, or for single modules `info,towpath::proxy=debug`.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// The listener that the request comes to; by default the first outgoing one.
    #[arg(long, value_name = "NAME")]
    pub(super) listener: Option<String>,
    /// Who asks: the name of a caller, for the policies of the services.
    #[arg(long, value_name = "NAME")]
    pub(super) caller: Option<String>,
    /// A header of the request; a `host` header wins over the URL's host, as with curl.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(super) headers: Vec<String>,
    /// The request's body.
    #[arg(long, value_name = "FILE")]
    pub(super) body: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Such as GET.
    pub(super) method: String,
    /// Such as http://reviews/v2.
    pub(super) url: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// The daemon's admin API: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9990")]
    pub(super) admin: String,
    /// PEM file: who may vouch for the API's certificate, with https; else those whom the system trusts.
    #[arg(long, value_name = "FILE")]
    pub(super) admin_ca: Option<PathBuf>,
    /// PEM file: the certificate that is shown to the API, with https.
    #[arg(long, value_name = "FILE", requires = "admin_key")]
    pub(super) admin_cert: Option<PathBuf>,
    /// PEM file: its private key.
    #[arg(long, value_name = "FILE", requires = "admin_cert")]
    pub(super) admin_key: Option<PathBuf>,
    /// A file with the API's token; else the variable TOWPATH_ADMIN_TOKEN, if it is set.
    #[arg(long, value_name = "FILE")]
    pub(super) admin_token_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Tap {
    /// Only requests of this route; `*` stands for any characters, as in the names below.
    #[arg(long, value_name = "NAME")]
    pub(super) route: Option<String>,
    /// Only requests of this service.
    #[arg(long, value_name = "NAME")]
    pub(super) service: Option<String>,
    /// Only requests that got this status, such as 503 or 5xx; several with commas.
    #[arg(long, value_name = "STATUS")]
    pub(super) status: Option<String>,
    /// Only requests of this caller.
    #[arg(long, value_name = "NAME")]
    pub(super) caller: Option<String>,
    /// At most so many requests each second, up to 1000.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub(super) rate: u32,
    /// Print each request as the JSON of the access log.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(super) struct Top {
    /// Seconds between two looks; figures are those of the time between.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    pub(super) interval: f64,
    /// What services are sorted by.
    #[arg(long, value_enum, default_value_t = Order::Rate)]
    pub(super) sort: Order,
    /// Print one table and exit.
    #[arg(long)]
    pub(super) once: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Order {
    /// The most requests first.
    Rate,
    /// The most that fail first.
    Success,
    /// The slowest first.
    P99,
    /// By name.
    Name,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "must be a number of seconds from 0.1 to 3600".to_owned())
}

#[derive(Debug, Subcommand)]
pub(super) enum Ca {
    /// Make an authority: ca.crt, which others are to believe, and ca.key, which nobody else may have.
    Init(CaInit),
    /// Make NAME.crt and NAME.key for nodes; also an authority, where there is none.
    Issue(CaIssue),
}

#[derive(Debug, clap::Args)]
pub(super) struct CaInit {
    /// The SPIFFE trust domain of the nodes.
    #[arg(long, value_name = "NAME", default_value = ca::DEFAULT_DOMAIN)]
    pub(super) trust_domain: String,
    #[command(flatten)]
    pub(super) files: CaFiles,
}

#[derive(Debug, clap::Args)]
pub(super) struct CaIssue {
    /// DNS names or addresses of nodes; files are named after them.
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// A further DNS name.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) dns: Vec<String>,
    /// An IP address.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(super) ip: Vec<IpAddr>,
    /// The SPIFFE id, in place of spiffe://TRUST-DOMAIN/node/NAME.
    #[arg(long, value_name = "ID")]
    pub(super) spiffe: Option<String>,
    #[command(flatten)]
    pub(super) files: CaFiles,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CaFiles {
    /// Where files are.
    #[arg(long, default_value = "tls")]
    pub(super) dir: PathBuf,
    /// How long the certificates are valid; 3650 for an authority, else 365.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(super) days: Option<u32>,
    /// Replace files that are there.
    #[arg(long)]
    pub(super) force: bool,
}
