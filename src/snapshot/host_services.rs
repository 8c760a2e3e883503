//! Services made on first use from `{host}` templates: one per distinct host and port, over all workers.
//!
//! However many requests arrive together, the first one to take the lock makes the service and the others find it.
//! Workers keep what they found, so the lock is not on a request's usual path.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{
    config::{FixedEndpoint, HostServices as Limits, HostTemplate, Name, Source},
    service::Service,
    telemetry::Metrics,
};

/// As many services as allowed exist, and none of them is this host's.
#[derive(Debug)]
pub struct Full {
    /// How many are allowed.
    pub max: usize,
}

/// All services made from templates.
pub struct HostServices {
    services: Mutex<HashMap<Key, Arc<Service>>>,
    metrics: Arc<Metrics>,
    /// To the control thread, which lets discovery follow them.
    made: mpsc::UnboundedSender<Arc<Service>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    template: HostTemplate,
    host: String,
    port: u16,
}

impl HostServices {
    /// None yet. Each service that is made is also sent to `made`.
    pub fn new(metrics: Arc<Metrics>, made: mpsc::UnboundedSender<Arc<Service>>) -> Self {
        Self { services: Mutex::default(), metrics, made }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service of `host` (lower case, without port) at `port`; made if it does not exist.
    ///
    /// # Errors
    /// [`Full`] when it does not exist and no more are allowed.
    pub fn get(
        &self,
        template: &HostTemplate,
        host: &str,
        port: u16,
        limits: &Limits,
    ) -> Result<Arc<Service>, Full> {
        let key = Key { template: template.clone(), host: host.to_owned(), port };
        let mut services = self.lock();
        if let Some(service) = services.get(&key) {
            service.touch();
            return Ok(service.clone());
        }
        if services.len() >= limits.max {
            return Err(Full { max: limits.max });
        }
        let service = Arc::new(self.make(template, host, port));
        services.insert(key, service.clone());
        // The control thread is gone only when the node stops.
        let _ = self.made.send(service.clone());
        Ok(service)
    }

    fn make(&self, template: &HostTemplate, host: &str, port: u16) -> Service {
        let target = format!("{}{host}{}", template.prefix, template.suffix);
        let (name, source) = match target.parse() {
            Ok(ip) => {
                let address = std::net::SocketAddr::new(ip, port);
                (address.to_string(), Source::Fixed(vec![FixedEndpoint::plain(address)]))
            }
            Err(_) => (format!("{target}:{port}"), Source::Dns { host: target, port }),
        };
        Service::new(Name::from(name), source, template.policy.clone(), &self.metrics, None)
    }

    /// Drops the services that no request has used for `idle`, and those whose template is not among `templates`.
    pub fn sweep(&self, idle: Duration, templates: &[&HostTemplate]) {
        self.lock().retain(|key, service| {
            let wanted = templates.contains(&&key.template);
            let used = service.idle() < idle || service.series.in_flight.get() > 0;
            if !(wanted && used) {
                service.retire();
            }
            wanted && used
        });
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Service>> {
        let mut services: Vec<_> = self.lock().values().cloned().collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }
}
