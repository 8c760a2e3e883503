//! HTTP/1.1 keep-alive reverse proxy on pingora: `pingora-peer LISTEN UPSTREAM`, one worker thread.

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct ToUpstream {
    address: String,
}

#[async_trait]
impl ProxyHttp for ToUpstream {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.address.as_str(), false, String::new())))
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(address)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: pingora-peer LISTEN UPSTREAM");
        return ExitCode::from(2);
    };
    let settings = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 1024,
        grace_period_seconds: Some(0), // a round ends at once
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), ToUpstream { address });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever()
}
