//! Services made on first use from `{host}` templates: one per distinct host and port, over all workers.
//!
//! However many requests arrive together, the first one to take the lock makes the service and the others find it.
//! Workers keep what they found, so the lock is not on a request's usual path.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::Clients;
use crate::{
    config::{FixedEndpoint, HostServices as Limits, HostTemplate, Name, Source},
    service::{Neighbourhood, Service, Way},
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
    made: Mutex<Made>,
    metrics: Arc<Metrics>,
    /// To the control thread, which lets discovery follow them.
    news: mpsc::UnboundedSender<Arc<Service>>,
}

/// What exists.
struct Made {
    services: HashMap<Key, Arc<Service>>,
    /// For those that are made from now on, whichever snapshot a request goes by.
    neighbourhood: Arc<Neighbourhood>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    template: HostTemplate,
    host: String,
    port: u16,
}

impl HostServices {
    /// None yet. Each service that is made is also sent to `news`.
    pub fn new(
        metrics: Arc<Metrics>,
        neighbourhood: Arc<Neighbourhood>,
        news: mpsc::UnboundedSender<Arc<Service>>,
    ) -> Self {
        let made = Made { services: HashMap::new(), neighbourhood };
        Self { made: Mutex::new(made), metrics, news }
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
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
        (limits, clients): (&Limits, &Clients),
    ) -> Result<Arc<Service>, Refused> {
        let key = Key { template: template.clone(), host: host.to_owned(), port };
        let mut made = self.lock();
        if let Some(service) = made.services.get(&key) {
            service.touch();
            return Ok(service.clone());
        }
        let name = format!("{}{host}{}", template.prefix, template.suffix);
        if !limits.allow(&name) {
            return Err(Refused::Outside { name });
        }
        if made.services.len() >= limits.max {
            return Err(Refused::Full { max: limits.max });
        }
        let way = clients.way(&template.policy);
        let service = Arc::new(self.make((template, way), host, port, &made.neighbourhood));
        made.services.insert(key, service.clone());
        // The control thread is gone only when the node stops.
        let _ = self.news.send(service.clone());
        Ok(service)
    }

    fn make(
        &self,
        (template, way): (&HostTemplate, Way),
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
            (template.policy.as_ref().clone(), way),
            (&self.metrics, neighbourhood),
            None,
        )
    }

    /// Drops the services that no request has used for long, those whose template is not among `templates`, and those
    /// whose name is no longer allowed.
    pub fn sweep(&self, limits: &Limits, templates: &[&HostTemplate]) {
        self.lock().services.retain(|key, service| {
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

    /// The neighbourhood of those that are made now.
    pub fn neighbourhood(&self) -> Arc<Neighbourhood> {
        self.lock().neighbourhood.clone()
    }

    /// Replaces each by one in another neighbourhood, which takes over what it knows. Returns all of them, each with its
    /// successor: the old one is to be told so, and discovery to follow the new one. To be called on the control thread.
    pub fn relocate(&self, neighbourhood: &Arc<Neighbourhood>) -> Vec<(Arc<Service>, Arc<Service>)> {
        self.lock().neighbourhood = neighbourhood.clone();
        // Workers need the lock, and this takes long: only the control thread removes any, and others are made as they should be.
        let successor = |old: Arc<Service>| {
            let (name, source, policy) = (old.name.clone(), old.source.clone(), old.policy.clone());
            let way = old.way.clone();
            let new = Service::new(name, source, (policy, way), (&self.metrics, neighbourhood), Some(&old));
            (old, Arc::new(new))
        };
        let pairs: Vec<_> = self.list().into_iter().map(successor).collect();
        let successors: HashMap<*const Service, &Arc<Service>> =
            pairs.iter().map(|(old, new)| (Arc::as_ptr(old), new)).collect();
        for service in self.lock().services.values_mut() {
            if let Some(new) = successors.get(&Arc::as_ptr(service)) {
                *service = (*new).clone();
            }
        }
        pairs
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Service>> {
        let mut services: Vec<_> = self.lock().services.values().cloned().collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }
}
