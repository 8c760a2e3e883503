//! What towpath says about itself: metrics, the access log, trace context, its own log.
//!
//! `arena.rs`, `series.rs` and `family.rs` are the machinery under `metrics.rs`; `declared.rs` is the one table of
//! all metrics. `history/` keeps the last minutes of some of them for the dashboard.

mod access_line;
mod access_log;
mod access_output;
mod access_template;
mod arena;
mod caller_series;
mod classic;
mod connection_series;
mod declared;
mod dns_series;
mod exposition;
mod family;
mod finished;
mod handles;
mod history;
mod keep_rate;
mod limit_series;
mod line_text;
pub mod log;
mod metrics;
mod process;
mod record;
mod record_filter;
mod render;
mod repeats;
mod request_series;
mod route_series;
mod series;
mod span_series;
mod tap;
mod tls_series;
mod token_series;
mod trace;
mod tracer;

pub use access_log::AccessLog;
pub use arena::{enter_worker, present_worker};
pub use caller_series::{CallerSeries, PolicySeries};
pub use connection_series::ConnectionSeries;
pub use dns_series::DnsSeries;
pub use exposition::Format;
pub use finished::Finished;
pub use handles::{AttemptOutcome, EndpointSeries, ListenerSeries, ServiceSeries};
pub use history::{Counts, From as CalledFrom, History, Past, STEP as HISTORY_STEP, Sample};
pub use limit_series::LimitSeries;
pub use line_text::write_time;
pub use metrics::Metrics;
pub use process::own_bytes;
pub use record::{AttemptNote, CALLER_GONE, NO_ANSWER, Phases, Record, was_sent};
pub use render::{Piece, Rendering};
pub use request_series::RequestSeries;
pub use route_series::RouteSeries;
pub use series::{Counter, Gauge, Held, Histogram, Level};
pub use span_series::SpanSeries;
pub use tap::{Tap, Watch};
pub use tls_series::{CertificateSeries, Handshake, HandshakeSeries};
pub use token_series::{AuthorizationSeries, TokenSeries};
pub use trace::{TraceContext, ensure_request_id};
pub use tracer::Tracer;
