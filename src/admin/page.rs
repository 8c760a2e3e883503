//! `/`: the node on one plain page, for people without tools. It runs no scripts.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use super::{
    server::{self, Shared},
    services::Services,
    status::Status,
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2rem .8rem .2rem 0;\
    border-bottom:1px solid #ccc}code{font-size:.95em}";

const LINKS: [&str; 8] = [
    "/metrics",
    "/ready",
    "/live",
    "/api/status",
    "/api/config",
    "/api/services",
    "/api/routes",
    "/api/log-level",
];

pub(super) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    server::html(render(&Status::of(&shared), &Services::of(&shared)))
}

fn render(status: &Status, services: &Services) -> String {
    let Status { version, generation, state, uptime_seconds, workers, last_reload, .. } = status;
    let node = escape(&status.node);
    let zone = status.zone.as_deref().map(|zone| format!(" in {}", escape(zone))).unwrap_or_default();
    let links: Vec<String> = LINKS.iter().map(|path| format!("<a href=\"{path}\">{path}</a>")).collect();
    let error = last_reload.error.as_deref().map(|error| format!("<pre>{}</pre>", escape(error)));
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>towpath: {node}</title>\
         <style>{STYLE}</style><h1>{node}{zone}</h1>\
         <p>towpath {version}: <strong>{state}</strong>, generation {generation}, {workers} workers, \
         up {uptime_seconds} s. Last configuration read {}: {}.</p>{}\
         <h2>Listeners</h2>{}<h2>Services</h2>{}<p>{}</p></html>\n",
        escape(&last_reload.at),
        last_reload.result,
        error.unwrap_or_default(),
        listeners(status),
        self::services(services),
        links.join(" · "),
    )
}

fn listeners(status: &Status) -> String {
    let row = |listener: &super::ListenerState| {
        let connections = listener.connections.to_string();
        row([&listener.name, &listener.kind, &listener.address, &connections])
    };
    table(["name", "kind", "address", "connections"], status.listeners.iter().map(row))
}

fn services(services: &Services) -> String {
    let row = |service: &super::ServiceState| {
        let addresses: Vec<&str> = service.endpoints.iter().map(|endpoint| &*endpoint.address).collect();
        let state = match &service.message {
            Some(message) => format!("{}: {message}", service.state),
            None => service.state.clone(),
        };
        row([&service.name, &service.source, &state, &addresses.join(", "), &service.in_flight.to_string()])
    };
    table(["name", "source", "state", "endpoints", "in flight"], services.services.iter().map(row))
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = String>) -> String {
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    format!("<table><tr>{head}</tr>{}</table>", rows.collect::<String>())
}

fn row<const N: usize>(cells: [&str; N]) -> String {
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
    format!("<tr>{cells}</tr>")
}

/// Names come from files and from the hosts of requests.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_named_cannot_become_markup() {
        assert_eq!(row(["<b a=\"&\">"]), "<tr><td>&lt;b a=&quot;&amp;&quot;&gt;</td></tr>");
    }
}
