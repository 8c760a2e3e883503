//! Services made on first use from `{host}` templates: one per distinct host and port, over all workers.
//!
//! However many requests arrive together, the first one to take the lock makes the service and the others find it.
//! Workers keep what they found, so the lock is not on a request's usual path.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use crate::{
    config::{FixedEndpoint, HostServices as Limits, HostTemplate, Name, Source},
    service::{Neighbourhood, Service},
    telemetry::Metrics,
};

/// Why a host has no service of its own.
#[derive(Debug)]
pub enum Refused {
    /// As many services as allowed exist.
    Full {
        /// How many are allowed.
        max: usize,
    },
    /// The name is in none of the allowed domains.
    Outside {
        /// What the host stands for.
        name: String,
    },
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
    /// [`Refused`] when it does not exist and may not.
    pub fn get(
        &self,
        template: &HostTemplate,
        host: &str,
        port: u16,
        limits: &Limits,
        neighbourhood: &Arc<Neighbourhood>,
    ) -> Result<Arc<Service>, Refused> {
        let key = Key { template: template.clone(), host: host.to_owned(), port };
        let mut services = self.lock();
        if let Some(service) = services.get(&key) {
            service.touch();
            return Ok(service.clone());
        }
        let name = format!("{}{host}{}", template.prefix, template.suffix);
        if !limits.allow(&name) {
            return Err(Refused::Outside { name });
        }
        if services.len() >= limits.max {
            return Err(Refused::Full { max: limits.max });
        }
        let service = Arc::new(self.make(template, host, port, neighbourhood));
        services.insert(key, service.clone());
        // The control thread is gone only when the node stops.
        let _ = self.made.send(service.clone());
        Ok(service)
    }

    fn make(
        &self,
        template: &HostTemplate,
        host: &str,
        port: u16,
        neighbourhood: &Arc<Neighbourhood>,
    ) -> Service {
        let target = format!("{}{host}{}", template.prefix, template.suffix);
        let (name, source) = match target.parse() {
            Ok(ip) => {
                let address = std::net::SocketAddr::new(ip, port);
                (address.to_string(), Source::Fixed(vec![FixedEndpoint::plain(address)]))
            }
            Err(_) => (format!("{target}:{port}"), Source::Dns { host: target, port }),
        };
        Service::new(
            Name::from(name),
            source,
            template.policy.as_ref().clone(),
            (&self.metrics, neighbourhood),
            None,
        )
    }

    /// Drops the services that no request has used for long, those whose template is not among `templates`, and those
    /// whose name is no longer allowed.
    pub fn sweep(&self, limits: &Limits, templates: &[&HostTemplate]) {
        self.lock().retain(|key, service| {
            let name = || format!("{}{}{}", key.template.prefix, key.host, key.template.suffix);
            let allowed = limits.suffixes.is_empty() || limits.allow(&name());
            let wanted = templates.contains(&&key.template) && allowed;
            let used = service.idle() < limits.idle_timeout || service.series.in_flight.get() > 0;
            if !(wanted && used) {
                service.retire();
            }
            wanted && used
        });
    }

    /// Drops all of them: each is made anew when a request needs it.
    pub fn clear(&self) {
        self.lock().drain().for_each(|(_, service)| service.retire());
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Service>> {
        let mut services: Vec<_> = self.lock().values().cloned().collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }
}
